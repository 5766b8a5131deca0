<?php

declare(strict_types=1);

namespace Example;

/** smsq refused the message: sending it again would end the same way. */
final class Refused extends \RuntimeException {}

/** smsq did not answer. It may have the message: send it again later, with the same key. */
final class Unavailable extends \RuntimeException {}

/** Sends messages through smsq's relay, which takes the SMS gateway's own request. */
final class Relay
{
    /**
     * @param string $url     of `smsq serve`, such as https://sms.internal.example/
     * @param float  $timeout seconds for one request, connecting included
     * @param int    $tries   requests for one message, at most
     * @param float  $wait    seconds before the second request; doubled before each further one
     */
    public function __construct(
        private readonly string $url,
        #[\SensitiveParameter] private readonly string $secret,
        private readonly float $timeout = 5.0,
        private readonly int $tries = 4,
        private readonly float $wait = 0.5,
    ) {}

    /**
     * Send one message; return its id.
     *
     * @param string $key names this message for 24 hours, such as "login-7781": however often it is
     *                    sent with the same key, one SMS goes out. That makes a retry harmless, so it
     *                    must not be made anew for each request.
     * @throws Refused|Unavailable
     */
    public function send(
        #[\SensitiveParameter] string $phone,
        string $template,
        #[\SensitiveParameter] string $code,
        string $key,
        string $lane = 'otp',
    ): string {
        $form = [
            'module' => 'sms', 'file' => 'send', 'action' => 'send', 'mobphone' => $phone,
            'smstemplate' => $template, 'code' => $code, 'key' => $key, 'lane' => $lane,
        ];
        for ($n = 1; ; $n++) {
            [$status, $body, $retryAfter, $error] = $this->post($form);
            $answer = $status === 200 ? json_decode($body, true) : null;
            if (is_array($answer)) {
                // The result is `code`, as with the gateway. A wrong secret is a refusal, too.
                return $answer['code'] === 200 ? $answer['mid'] : throw new Refused($answer['msg']);
            }
            if ($status >= 400 && $status < 500 && $status !== 408 && $status !== 429) {
                throw new Refused("HTTP $status");
            }
            if ($n >= $this->tries) {
                throw new Unavailable($error ?: "HTTP $status");
            }
            // At random, so that many clients do not come back at the same moment.
            $wait = $this->wait * 2 ** ($n - 1) * (0.5 + mt_rand() / mt_getrandmax());
            usleep((int) (1e6 * max($wait, $retryAfter)));
        }
    }

    /** @return array{int, string, int, string} status (0: no answer), body, Retry-After, error */
    private function post(#[\SensitiveParameter] array $form): array
    {
        $retryAfter = 0;
        $curl = curl_init($this->url);
        curl_setopt_array($curl, [
            // A text, not an array: of an array PHP makes a multipart form.
            CURLOPT_POSTFIELDS => http_build_query($form),
            // The secret alone, without "Bearer".
            CURLOPT_HTTPHEADER => ["Authorization: $this->secret"],
            CURLOPT_RETURNTRANSFER => true,
            CURLOPT_TIMEOUT_MS => (int) ($this->timeout * 1000),
            CURLOPT_HEADERFUNCTION => function ($curl, string $line) use (&$retryAfter): int {
                if (preg_match('/^retry-after:\s*(\d{1,3})\s*$/i', $line, $found)) {
                    $retryAfter = (int) $found[1];
                }
                return strlen($line);
            },
        ]);
        $body = curl_exec($curl);
        $status = $body === false ? 0 : curl_getinfo($curl, CURLINFO_RESPONSE_CODE);
        return [$status, (string) $body, $retryAfter, curl_error($curl)];
    }
}
