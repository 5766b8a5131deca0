<?php

/** A relay that answers what ANSWERS says, line by line: a status, "hang", or JSON. Notes each key. */

declare(strict_types=1);

$notes = fopen(getenv('NOTES'), 'c+');
flock($notes, LOCK_EX);
$n = count(file(getenv('NOTES')));
fseek($notes, 0, SEEK_END);
fwrite($notes, $_POST['key'] . "\n");
fclose($notes);
$answer = file(getenv('ANSWERS'), FILE_IGNORE_NEW_LINES)[$n];
if ($answer === 'hang') {
    sleep(60);
} elseif (ctype_digit($answer)) {
    http_response_code((int) $answer);
    echo '{"code":400,"msg":"try again","mid":""}';
} else {
    echo $answer;
}
