<?php

/** php tests/run.php, beside a running `smsq up`: see README.md. */

declare(strict_types=1);

require __DIR__ . '/../src/Relay.php';
require __DIR__ . '/../src/Webhook.php';

use Example\BadSignature;
use Example\Refused;
use Example\Relay;
use Example\Unavailable;
use Example\Webhook;

const PATIENCE_S = 60;
set_error_handler(fn ($level, $text, $file, $line) => throw new ErrorException($text, 0, $level, $file, $line));

function same(mixed $found, mixed $expected, string $what): void
{
    if ($found !== $expected) {
        throw new Exception("$what: " . var_export($found, true) . ' is not ' . var_export($expected, true));
    }
}

/** Return what is thrown. */
function thrown(callable $act): string
{
    try {
        $act();
    } catch (Throwable $error) {
        return get_class($error);
    }
    return 'nothing';
}

function eventually(callable $is_so, string $what): void
{
    for ($end = time() + PATIENCE_S; !$is_so(); usleep(20_000)) {
        same(time() < $end, true, $what);
    }
}

/** Serve a script with PHP's own server while $act runs. */
function serving(string $script, string $address, array $environ, callable $act): void
{
    // A request that hangs must not keep the next one waiting.
    $environ += getenv() + ['PHP_CLI_SERVER_WORKERS' => '4'];
    $files = [1 => ['file', '/dev/null', 'w'], 2 => ['file', '/dev/null', 'w']];
    // A group of its own: the server does not end its workers.
    $server = proc_open(['setsid', PHP_BINARY, '-S', $address, $script], $files, $pipes, null, $environ);
    try {
        eventually(function () use ($address): bool {
            try {
                return fclose(stream_socket_client("tcp://$address"));
            } catch (ErrorException) {
                return false;
            }
        }, "$script answers");
        $act();
    } finally {
        posix_kill(-proc_get_status($server)['pid'], 9);
        proc_close($server);
    }
}

function free_port(): int
{
    $socket = stream_socket_server('tcp://127.0.0.1:0');
    $port = (int) substr(strrchr(stream_socket_get_name($socket, false), ':'), 1);
    fclose($socket);
    return $port;
}

function folder(): string
{
    $folder = sys_get_temp_dir() . '/relay_php_' . bin2hex(random_bytes(6));
    mkdir($folder, 0700);
    register_shutdown_function(function () use ($folder): void {
        array_map('unlink', glob("$folder/*"));
        rmdir($folder);
    });
    return $folder;
}

/** Send once to a relay that gives these answers; return what came of it, and the keys it was sent. */
function sent(string ...$answers): array
{
    $folder = folder();
    [$port, $notes] = [free_port(), "$folder/notes"];
    touch($notes);
    file_put_contents("$folder/answers", implode("\n", $answers));
    $environ = ['NOTES' => $notes, 'ANSWERS' => "$folder/answers"];
    serving(__DIR__ . '/stub.php', "127.0.0.1:$port", $environ, function () use ($port, &$came): void {
        $relay = new Relay("http://127.0.0.1:$port/", 'secret', timeout: 3.0, wait: 0.01);
        try {
            $came = $relay->send('13800138000', 'SMS_1001', '482913', 'login-1');
        } catch (Refused | Unavailable $error) {
            $came = get_class($error);
        }
    });
    return [$came, file($notes, FILE_IGNORE_NEW_LINES)];
}

const OK = '{"code":200,"msg":"ok","mid":"m1"}';
const NO = '{"code":400,"msg":"template must be given","mid":""}';

$tests = [
    'what may have been taken is sent again with the same key' => function (): void {
        same(sent('503', '500', 'hang', OK), ['m1', array_fill(0, 4, 'login-1')], 'sent');
    },
    'a refusal is not sent again' => function (): void {
        same(sent(NO), [Refused::class, ['login-1']], 'sent');
        same(sent('404'), [Refused::class, ['login-1']], 'sent');
    },
    'it gives up in the end' => function (): void {
        same(sent('503', '429', '503', '503')[0], Unavailable::class, 'sent');
        $nobody = new Relay('http://127.0.0.1:' . free_port() . '/', 'secret', wait: 0.01);
        same(thrown(fn () => $nobody->send('13800138000', 'SMS_1001', '1', 'k')), Unavailable::class, 'nobody');
    },
    'a webhook is taken only as it was signed' => function (): void {
        [$secret, $body, $now] = ['whsec_' . base64_encode(str_repeat('k', 32)), '{"type":"t"}', (string) time()];
        $sign = fn (string $at, string $key) => 'v1,' . base64_encode(hash_hmac('sha256', "id.$at.$body", $key, true));
        $good = $sign($now, str_repeat('k', 32));
        same(Webhook::verify($body, 'id', $now, $good, $secret), ['type' => 't'], 'good');
        same(Webhook::verify($body, 'id', $now, $sign($now, 'other') . " $good", $secret), ['type' => 't'], 'rotated');
        $old = (string) (time() - 301);
        foreach ([
            ["$body ", 'id', $now, $good], [$body, 'id2', $now, $good], [$body, 'id', $now, ''],
            [$body, 'id', $now, $sign($now, 'other')], [$body, 'id', '', $good],
            [$body, 'id', $old, $sign($old, str_repeat('k', 32))],
        ] as $n => $bad) {
            same(thrown(fn () => Webhook::verify(...[...$bad, $secret])), BadSignature::class, "bad $n");
        }
    },
    'smsq takes a message once, and tells how it ended' => function (): void {
        $url = getenv('RELAY_URL') ?: 'http://127.0.0.1:8080/';
        $relay = new Relay($url, getenv('SMSQ_RELAY_SECRET'), timeout: PATIENCE_S);
        $callback = parse_url(getenv('SMSQ_WEBHOOK_URL'));
        $environ = ['EVENTS_DIR' => folder()];
        $address = "$callback[host]:$callback[port]";
        serving(__DIR__ . '/../callback.php', $address, $environ, function () use ($url, $relay, $environ): void {
            $key = 'php-' . bin2hex(random_bytes(6));
            $id = $relay->send('13800138000', 'SMS_1001', '482913', $key, 'notice');
            same($relay->send('13800138000', 'SMS_1001', '482913', $key, 'notice'), $id, 'the same key');
            same(thrown(fn () => $relay->send('12', 'SMS_1001', '1', "$key-2")), Refused::class, 'no number');
            $stranger = new Relay($url, 'not-the-secret-of-anybody', timeout: PATIENCE_S);
            same(thrown(fn () => $stranger->send('13800138000', 'SMS_1001', '1', $key)), Refused::class, 'secret');
            $file = "$environ[EVENTS_DIR]/" . hash('sha256', "$id.delivered") . '.json';
            eventually(fn () => is_file($file), "the callback for $id");
            same(json_decode(file_get_contents($file), true)['stat'], 'DELIVRD', 'stat');
        });
    },
];

$failed = 0;
foreach ($tests as $name => $test) {
    try {
        $test();
        echo "ok      $name\n";
    } catch (Throwable $error) {
        $failed++;
        echo "FAILED  $name\n        $error\n";
    }
}
exit($failed ? 1 : 0);
