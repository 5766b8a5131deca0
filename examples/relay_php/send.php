<?php

/** php send.php PHONE TEMPLATE CODE KEY */

declare(strict_types=1);

require __DIR__ . '/src/Relay.php';

[, $phone, $template, $code, $key] = $argv + array_fill(0, 5, '');
$relay = new Example\Relay(getenv('RELAY_URL') ?: 'http://127.0.0.1:8080/', getenv('SMSQ_RELAY_SECRET') ?: '');
try {
    echo $relay->send($phone, $template, $code, $key), "\n";
} catch (Example\Refused | Example\Unavailable $error) {
    fwrite(STDERR, get_class($error) . ': ' . $error->getMessage() . "\n");
    exit(1);
}
