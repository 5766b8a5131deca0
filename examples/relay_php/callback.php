<?php

/**
 * What SMSQ_WEBHOOK_URL points at: notes how each message ended, as a file in EVENTS_DIR.
 *
 * 2xx only when the event is safe. A callback comes at least once: one that comes again replaces the
 * same file. In a real project the file is a row, with webhook-id as its unique key.
 */

declare(strict_types=1);

require __DIR__ . '/src/Webhook.php';

try {
    $id = $_SERVER['HTTP_WEBHOOK_ID'] ?? '';
    $event = Example\Webhook::verify(
        file_get_contents('php://input'),
        $id,
        $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? '',
        $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? '',
        getenv('SMSQ_WEBHOOK_SECRET') ?: '',
    );
} catch (Example\BadSignature $error) {
    error_log('a webhook was refused: ' . $error->getMessage());
    http_response_code(401);
    exit;
}
$file = getenv('EVENTS_DIR') . '/' . hash('sha256', $id) . '.json';
$saved = file_put_contents("$file.tmp", json_encode($event['data'])) && rename("$file.tmp", $file);
http_response_code($saved ? 204 : 500);
