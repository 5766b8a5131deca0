<?php

declare(strict_types=1);

namespace Example;

/** The request is not from smsq, or is an old one that somebody repeats. */
final class BadSignature extends \RuntimeException {}

/** Verifies smsq's webhooks, which are signed as standardwebhooks.com specifies. */
final class Webhook
{
    private const TOLERANCE_S = 300;

    /**
     * Return the event of a request: `type`, `timestamp`, `data`.
     *
     * @param string $body   as it came: the signature is of these bytes, before any parsing
     * @param string $secret "whsec_..." of SMSQ_WEBHOOK_SECRET
     * @throws BadSignature
     */
    public static function verify(
        string $body,
        string $id,
        string $timestamp,
        string $signatures,
        #[\SensitiveParameter] string $secret,
    ): array {
        if (!ctype_digit($timestamp) || abs(time() - (int) $timestamp) > self::TOLERANCE_S) {
            throw new BadSignature('the timestamp is missing or too far from now');
        }
        $key = base64_decode(substr($secret, strlen('whsec_')), true);
        if ($key === false || $key === '') {
            throw new \InvalidArgumentException('the secret must be whsec_ and base64');
        }
        $expected = base64_encode(hash_hmac('sha256', "$id.$timestamp.$body", $key, true));
        // Several, with a blank between, while the secret is being changed.
        foreach (explode(' ', $signatures) as $signature) {
            if (hash_equals("v1,$expected", $signature)) {
                return json_decode($body, true, flags: JSON_THROW_ON_ERROR);
            }
        }
        throw new BadSignature('no signature fits');
    }
}
