"""The whole product at work, with every kind of message; and nothing of it tells a secret.

Numbers, codes and secrets are looked for in all that is kept, logged, shown and told at several
moments of one run. What may be found, and why, is said where it is left out: see `Secrets`, and
`smsq suppressed export`, which is not run because to tell the numbers is its purpose.
"""

from __future__ import annotations

import base64
import json
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote_plus

import pytest
import redis
import requests
from celery import Celery
from cryptography.fernet import Fernet

from harness.cli import as_text, unmasked_run
from harness.keyspace import everything
from harness.receiver import Receiver
from harness.waiting import eventually
from smsq import keys
from smsq.connection import connect
from smsq.contract import State
from smsq.tracking import Status, read_status
from smsq_worker.devstack import services
from smsq_worker.devstack.expected import ORDINARY, End, expected_ends
from smsq_worker.devstack.processes import Stack
from smsq_worker.domain.codes import Catalogue, CodeClass
from smsq_worker.infra.ports import free_port

pytestmark = pytest.mark.timeout(600)

COMMANDS: Final = ("status", "held", "parked", "notices", "suppressed", "rate", "codes", "doctor")
PATIENCE_S: Final = 60.0
"""Only a fault reaches it."""
NO_BALANCE: Final = "1015"
"""The one number of the sandbox's table that stops all others; an operator does so here."""
APP_SECRET: Final = "app-secret-Vw3rT"
TOKEN: Final = "report-token-Kx7pL-0123"
RELAY: Final = "relay-secret-Ha4mB"
SHOP: Final = "shop-secret-Jd9qN-0123"
RETURN_TOKEN: Final = "return-token-Ye2sF"
HOOK_TOKEN: Final = "hook-token-Zc6uG"
FLOWER: Final = ("operator", "flower-password-Ob1kR")
PAYLOAD_KEY: Final = Fernet.generate_key().decode()
WEBHOOK_KEY: Final = "whsec_" + base64.b64encode(b"webhook-secret-Mi8xD-0123456789a").decode()

# --- what is looked for ---------------------------------------------------------------------

NUMBER: Final = 11
CODE: Final = 12
"""No clock's digits look like a code's by chance."""
_DIGITS: Final = re.compile(r"\d(?:[ -]?\d){10,}")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]{16,}={0,2}")


@dataclass
class Secrets:
    """What nobody may see, in groups that have different places in which they may be."""

    ours: set[str] = field(default_factory=set)
    """Numbers, codes and secrets. Nothing has them."""
    urls: set[str] = field(default_factory=set)
    """Of a caller's returnurl. Redis has it: a worker must know where to tell. Nothing else has."""
    bare: set[str] = field(default_factory=set)
    """Of bare messages of other languages, which are readable until a worker takes them, and in
    the append-only file until it is rewritten: their weakness, see other-languages.md."""

    def all(self) -> set[str]:
        return self.ours | self.urls | self.bare


def found(text: str, secrets: set[str]) -> set[str]:
    """Find what a text tells, however it is written: in groups, percent-encoded, in base64."""
    plain = [text, unquote_plus(text), *map(decoded, _BASE64.findall(text))]
    return set().union(*(_found(form, secrets) for form in plain))


def _found(text: str, secrets: set[str]) -> set[str]:
    windows = {
        run[i : i + size]
        for run in (re.sub("[ -]", "", run) for run in _DIGITS.findall(text))
        for size in (NUMBER, CODE)
        for i in range(len(run) - size + 1)
    }
    return (secrets & windows) | {one for one in secrets if not one.isdigit() and one in text}


def decoded(text: str) -> str:
    text = text.rstrip("=")[: len(text) // 4 * 4]
    return base64.b64decode(text + "=" * (-len(text) % 4)).decode("latin-1")


def grouped(number: str) -> str:
    return f"+86 {number[:3]}-{number[3:7]} {number[7:]}"


@pytest.mark.parametrize(
    "disguise",
    [
        lambda n: n,
        lambda n: f"86{n}0",
        lambda n: f"+86 {n[:3]} {n[3:7]} {n[7:]}",
        lambda n: f"{n[:3]}-{n[3:]}",
        lambda n: f"?mobphone=%2B86%20{n[:3]}%20{n[3:]}&code=1",
        lambda n: json.dumps({"body": base64.b64encode(json.dumps([[n]]).encode()).decode()}),
    ],
)
def test_the_search_sees_through(disguise: Any) -> None:
    assert found(f"x {disguise('13800138000')} y", {"13800138000", "other"}) == {"13800138000"}


# --- the messages ---------------------------------------------------------------------------


@dataclass
class Message:
    args: list[Any]
    options: dict[str, Any]
    end: End | None
    """State and reason that it comes to by itself; None where two of them must tell."""
    id: str = ""


class Messages:
    """Messages of all kinds, each with a number and a code of its own."""

    def __init__(self, ends: Mapping[str, End]) -> None:
        self.secrets = Secrets(
            ours={APP_SECRET, TOKEN, RELAY, SHOP, HOOK_TOKEN, FLOWER[1], PAYLOAD_KEY, WEBHOOK_KEY},
            urls={RETURN_TOKEN},
        )
        self._dice = random.Random(54)  # so that a failure comes again
        self._ends = {digits: end for digits, end in ends.items() if digits != NO_BALANCE}
        self.suppressed = [self.number() for _ in range(4)]
        self.singles = [*self._table(), *self._special()]
        self.invalid = [*self._invalid()]
        self.many = [*self._table()]
        self.relayed = [self.message() for _ in range(30)]
        self.in_flight = [self.message() for _ in range(6)]

    def number(self, digits: str = ORDINARY, *, bare: bool = False) -> str:
        number = f"1{self._dice.choice('3589')}{self._dice.randrange(10**5):05}{digits}"
        if number in self.secrets.all():
            return self.number(digits, bare=bare)
        self._hide(number, bare=bare)
        # Without a key, all digests can be tried in seconds.
        self._hide(keys.phone_hash(number))
        return number

    def code(self, *, bare: bool = False) -> str:
        code = f"{self._dice.randrange(10**CODE):0{CODE}}"
        if self._dice.randrange(4):
            return self._hide(code, bare=bare)
        return f"验证码 {self._hide(f'Qz{int(code):x}k', bare=bare)}&更多"

    def _hide(self, text: str, *, bare: bool = False) -> str:
        (self.secrets.bare if bare else self.secrets.ours).add(text)
        return text

    def message(
        self, digits: str = ORDINARY, end: End | None = None, number: str = "", **options: Any
    ) -> Message:
        template = f"SMS_{self._dice.randrange(10**6)}"
        args = [number or self.number(digits), template, self.code()]
        return Message(args, options, end or self._ends[digits])

    def _table(self) -> Iterator[Message]:
        """One for each fault of the sandbox."""
        for n, digits in enumerate(self._ends):
            message = self.message(digits, lane=("otp", "notice", "bulk")[n % 3])
            if n % 3 == 0:
                message.options["key"] = f"login {grouped(message.args[0])}"
            if n % 8 == 0:
                message.options |= {"notify": "shop.told", "reference": f"order {n}"}
            yield message

    def _special(self) -> Iterator[Message]:
        for _ in range(4):
            first = self.message()
            first.options["key"] = f"code for {first.args[0]}"
            yield first
            again = self.message(end=(State.DUPLICATE, "duplicate:"), key=first.options["key"])
            yield replace(again, args=[*first.args[:2], again.args[2]])
            number = self.number()
            for _ in range(2):
                yield replace(self.message(number=number, lane="otp"), end=None)
            yield self.message(end=(State.EXPIRED, None), ttl_s=0.01)
            yield self.message(end=(State.DEFERRED, None), send_at=time.time() + 3600)
            yield self.message("6001", (State.HELD, None), on_ambiguous="hold")
        for number in self.suppressed:
            yield self.message(number=number, end=(State.FAILED, "local:suppressed"))

    def _invalid(self) -> Iterator[tuple[list[Any], dict[str, Any]]]:
        """What is refused at the call, or by the worker where another language sends it."""
        for bad in BAD:
            number, code = self.number(bare=True), self.code(bare=True)
            yield bad(number, code)


BAD: Final = (
    lambda number, code: ([f"{number}5", "SMS_1", code], {}),
    lambda number, code: ([code, "SMS_1", number], {}),
    lambda number, code: ([number, {number: code}, code], {}),
    lambda number, code: ([number, "SMS_1", int(number)], {}),
    lambda number, code: ([number, "SMS_1", code], {"lane": number}),
    lambda number, code: ([number, "SMS_1", code], {"ttl_s": int(number)}),
    lambda number, code: ([number, "SMS_1", code], {"send_at": int(number)}),
    lambda number, code: ([number, "SMS_1", code], {"send_at": number}),
    lambda number, code: ([number, "SMS_1", code], {"notify": f"{code} {number}" * 20}),
    lambda number, code: ([number, "SMS_1", code], {grouped(number): code}),
    lambda number, code: ([number, "SMS_1", code, number, code], {}),
)

PRODUCER: Final = """
import json, logging, sys, smsq
logging.basicConfig(level=logging.DEBUG)
job, ids = json.load(sys.stdin), []
for args, options in job["singles"]:
    result = smsq.send_sms.delay(*args, **options)
    logging.info("%r %r", result, smsq.status(result.id))
    ids.append(result.id)
names = ("phone", "template", "code")
rows = [dict(zip(names, args)) | options for args, options in job["many"]]
smsq.send_many(rows, batch_size=30, on_batch=ids.extend)
rows = [dict(zip(names, args)) | options for args, options in job["invalid"] if len(args) == 3]
logging.info("%r", smsq.send_many(rows, on_invalid="skip").invalid)
for args, options in job["invalid"]:
    try:
        smsq.send_sms.apply_async(args, options)
    except smsq.InvalidMessage:
        logging.exception("refused")
    else:
        sys.exit("taken")
print(json.dumps(ids))
"""


# --- the product ----------------------------------------------------------------------------


@dataclass(repr=False)
class Product:
    """All parts as processes, and all that they show."""

    environ: dict[str, str]
    folder: Path
    stack: Stack
    client: redis.Redis
    workers: list[str]
    messages: Messages
    receivers: tuple[Receiver, Receiver]
    """The second wants nothing."""
    seen: dict[tuple[str, str], str] = field(default_factory=dict)
    """What was shown, by moment and place."""
    states: dict[str, set[str]] = field(default_factory=dict)

    @property
    def api(self) -> str:
        return f"http://{self.environ['SMSQ_API_BIND']}"

    def status(self, message: Message) -> Status:
        found = read_status(self.client, "", message.id)
        assert found is not None
        return found

    def run(self, *words: str) -> str:
        """Run a command; give all that it says."""
        done = as_text(unmasked_run(self.environ, *words))
        return f"{done.stdout}{done.stderr}"

    def signal(self, name: str, number: signal.Signals) -> None:
        dict(self.stack._running)[name].send_signal(number)

    def ask(self, secret: str = RELAY, method: str = "GET", **given: Any) -> dict[str, Any]:
        route = {"module": "sms", "file": "send", "action": "send"}
        where = "params" if method == "GET" else "data"
        answer = requests.request(
            method,
            self.api,
            headers={"Authorization": secret},
            timeout=PATIENCE_S,
            **{where: route | given},  # type: ignore[arg-type]
        )
        told: dict[str, Any] = answer.json()
        return told

    def report(self, body: str, token: str = TOKEN) -> str:
        headers = {"Content-Type": "application/json"}
        url = f"{self.api}/reports/{token}"
        return requests.post(url, body.encode(), headers=headers, timeout=PATIENCE_S).text

    # What is shown

    def look(self, moment: str) -> None:
        """Take down all that is to be seen now, but for the commands."""
        self.keep(moment, dict(self._pages(self.look_inside(moment))))

    def look_inside(self, moment: str) -> list[Message]:
        """Take down what is kept and logged; give the messages that have been sent."""
        known = [one for one in self.sent() if one.id]
        places = dict(self._remote_control([one.id for one in known]))
        self.states[moment] = {self.status(one).state for one in known}
        places |= {"redis": everything(self.client), "aof": self.files("redis")}
        places |= {"home": self.files("home"), "logs": self.files("logs")}
        self.keep(moment, places)
        return known

    def keep(self, moment: str, places: Mapping[str, str]) -> None:
        self.seen |= {(moment, place): text for place, text in places.items()}

    def sent(self) -> list[Message]:
        mine = self.messages
        return [*mine.singles, *mine.many, *mine.relayed, *mine.in_flight]

    def files(self, folder: str) -> str:
        paths = sorted(path for path in (self.folder / folder).rglob("*") if path.is_file())
        return "\n".join(f"{path}\n{path.read_bytes().decode('latin-1')}" for path in paths)

    def _remote_control(self, ids: list[str]) -> Iterator[tuple[str, str]]:
        with Celery(broker=self.environ["SMSQ_REDIS_URL"], set_as_current=False) as app:
            inspect = app.control.inspect(self.workers, timeout=5)
            for what in ("active", "reserved", "scheduled", "registered", "stats", "conf"):
                yield f"inspect {what}", json.dumps(getattr(inspect, what)(), default=repr)
            yield "inspect query_task", str(inspect.query_task(*ids))

    def _pages(self, known: list[Message]) -> Iterator[tuple[str, str]]:
        number = known[0].args[0]
        paths = ["/metrics", "/openapi.json", "/readyz", f"/messages/{number}", f"/{number}"]
        paths += [f"/messages/{one.id}" for one in known]
        with requests.Session() as web:
            web.headers["Authorization"] = RELAY
            for path in paths:
                yield f"door {path}", web.get(f"{self.api}{path}", timeout=PATIENCE_S).text
        table = "tasks/datatable?draw=1&start=0&length=5000&search[value]=&order[0][column]=0"
        paths = ["", "workers", "tasks", "broker", "metrics", "api/tasks?limit=5000"]
        paths += [f"{table}&order[0][dir]=asc&columns[0][data]=name", "api/workers?refresh=true"]
        paths += ["api/task/types", "api/queues/length"]
        paths += [f"worker/{name}" for name in self.workers]
        paths += [f"{page}/{one.id}" for page in ("task", "api/task/info") for one in known[::40]]
        flower = f"http://{self.environ['SMSQ_FLOWER_BIND']}"
        with requests.Session() as web:
            web.auth = FLOWER
            for path in paths:
                yield f"flower {path}", web.get(f"{flower}/{path}", timeout=PATIENCE_S).text

    def look_by_commands(self, moment: str) -> None:
        known = self.sent()
        by_state = {self.status(one).state: one.id for one in known}
        commands = [[word] for word in COMMANDS]
        commands += [["status", by_state[state]] for state in ("held", "failed", "delivered")]
        commands += [["explain", name] for name in (*by_state.values(), known[0].args[0])]
        commands += [[*command, "--json"] for command in commands]
        told = [self.run(*command) for command in commands]
        names = (f"smsq {' '.join(command)}" for command in commands)
        names = (name.replace(known[0].args[0], "NUMBER") for name in names)
        self.keep(moment, dict(zip(names, told, strict=True)))


@pytest.fixture(scope="module")
def product(
    base_environ: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Product]:
    """The product, after it has met everything."""
    folder = tmp_path_factory.mktemp("exposure")
    stack = Stack(folder / "logs")
    with ExitStack() as running:
        receivers = (running.enter_context(Receiver()), running.enter_context(Receiver()))
        receivers[1].status = lambda: 410
        environ = settings_of(folder, base_environ, receivers[0])
        running.callback(stack.stop)
        client = connect(environ["SMSQ_REDIS_URL"])
        running.callback(client.close)
        messages = Messages(expected_ends(Catalogue.load(folder / "codes.toml")))
        one = Product(environ, folder, stack, client, start(stack, environ), messages, receivers)
        live(one)
        yield one


def settings_of(folder: Path, base: Mapping[str, str], receiver: Receiver) -> dict[str, str]:
    (folder / "callers.toml").write_text(f'[callers.shop]\nsecret = "{SHOP}"\n')
    quick = (
        f'[codes."{code.stat}"]\nretry_after_s = 1\n'
        for code in Catalogue.load()
        if code.code_class is CodeClass.TRANSIENT
    )
    (folder / "codes.toml").write_text("".join(quick))
    sandbox, api, flower, redis_port = (f"127.0.0.1:{free_port()}" for _ in range(4))
    return {
        **base,
        "SMSQ_REDIS_URL": f"redis://{redis_port}/0",
        "SMSQ_HOME": str(folder / "home"),
        "SMSQ_PAYLOAD_KEYS": PAYLOAD_KEY,
        "SMSQ_GATEWAY_URL": f"http://{sandbox}/",
        "SMSQ_SANDBOX_BIND": sandbox,
        "SMSQ_SANDBOX_REPORT_URL": f"http://{api}/reports/{TOKEN}",
        "SMSQ_API_BIND": api,
        "SMSQ_FLOWER_BIND": flower,
        "FLOWER_BASIC_AUTH": ":".join(FLOWER),
        "SMSQ_APP_SECRET": APP_SECRET,
        "SMSQ_REPORT_TOKEN": TOKEN,
        "SMSQ_RELAY_SECRET": RELAY,
        "SMSQ_RELAY_CALLERS_FILE": str(folder / "callers.toml"),
        "SMSQ_CODES_FILE": str(folder / "codes.toml"),
        "SMSQ_WEBHOOK_URL": f"{receiver.url}&token={HOOK_TOKEN}",
        "SMSQ_WEBHOOK_SECRET": WEBHOOK_KEY,
        "SMSQ_OUTBOUND_ALLOW": "127.0.0.1",
        "SMSQ_NOTIFY_QUEUE": "shop",
        "SMSQ_PHONE_LIMITS": "1/3600",
        "SMSQ_CONNECT_TIMEOUT_S": "1",
        # Slow answers are well within it, and those that dribble well beyond.
        "SMSQ_READ_TIMEOUT_S": "6",
        "SMSQ_RETRY_FIRST_S": "0.2",
        "SMSQ_RETRY_MAX_S": "1",
        "SMSQ_MAX_RESENDS": "1",
        # Half of the numbers fail by design, which is no outage.
        "SMSQ_BREAKER": "",
    }


def start(stack: Stack, environ: dict[str, str]) -> list[str]:
    """Start every part; give the workers' names."""
    port = int(environ["SMSQ_REDIS_URL"].rpartition(":")[2].partition("/")[0])
    folder = Path(environ["SMSQ_HOME"]).parent
    parts = [
        services.redis_server(port, folder / "redis", environ),
        services.sandbox(
            environ["SMSQ_GATEWAY_URL"], environ, ["--report-delay", "0.3", "--slow", "1.5"]
        ),
        services.api(f"http://{environ['SMSQ_API_BIND']}/", environ),
        services.flower(f"http://{environ['SMSQ_FLOWER_BIND']}/", environ),
    ]
    for level, form in (("info", "json"), ("debug", "text")):
        own = environ | {"SMSQ_LOG_FORMAT": form}
        worker = services.worker(environ["SMSQ_REDIS_URL"], own)
        command = [*worker.command, "--loglevel", level, "--task-events", "--concurrency", "24"]
        parts.append(replace(worker, name=f"worker-{level}", command=command))
    for part in parts:
        stack.start(part)
    return [part.command[part.command.index("--hostname") + 1] for part in parts[-2:]]


# --- the run --------------------------------------------------------------------------------


def live(one: Product) -> None:
    """Let the product meet everything, and look at it all the while."""
    told = [one.run("suppressed", "add", *map(grouped, one.messages.suppressed))]
    told.append(one.run("pause", "--reason", "a look around"))
    enqueue(one)
    told.append(send_by_command(one))
    relay(one)
    eventually(lambda: one.client.llen("sms.notice"))
    one.look("paused")
    told += [one.run("status"), one.run("status", one.messages.singles[0].id)]
    told.append(one.run("resume"))
    bare(one)
    hostile_reports(one)
    eventually(lambda: all(at_its_end(one, message) for message in settling(one)), 120)
    in_flight(one)
    late_ends(one)
    one.look("end")
    one.look_by_commands("end")
    one.seen["end", "commands before"] = "\n".join(told)
    one.client.config_set("aof-use-rdb-preamble", "no")
    one.client.bgrewriteaof()
    eventually(lambda: len([*(one.folder / "redis" / "appendonlydir").iterdir()]) == 3)
    one.seen["end", "rewritten aof"] = one.files("redis")


def settling(one: Product) -> list[Message]:
    return [*one.messages.singles, *one.messages.many, *one.messages.relayed]


def at_its_end(one: Product, message: Message) -> bool:
    status = one.status(message)
    if message.end is None:
        return status.final
    state, reason = message.end
    if state is State.UNREPORTED:
        return status.state == State.ACCEPTED
    return status.state == state and (status.reason or "").startswith(reason or "")


def enqueue(one: Product) -> None:
    mine = one.messages
    sending = {
        "singles": [(message.args, message.options) for message in mine.singles],
        "many": [(message.args, message.options) for message in mine.many],
        "invalid": mine.invalid,
    }
    with (one.folder / "logs" / "producer.log").open("w") as log:
        done = subprocess.run(
            [sys.executable, "-c", PRODUCER],
            env=one.environ,
            input=json.dumps(sending),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            check=True,
        )
    ids = json.loads(done.stdout)
    for message, message_id in zip([*mine.singles, *mine.many], ids, strict=True):
        message.id = message_id


def send_by_command(one: Product) -> str:
    """Send by `smsq send`; give what it says, also of a number that is none."""
    message = one.messages.message()
    phone, template, code = message.args
    key = f"--key=for {phone}"
    told = one.run("send", grouped(phone), template, code, "--lane", "otp", key)
    message.id = told.strip()
    one.messages.singles.append(message)
    return "\n".join([told, one.run("send", f"{phone}7", template, code), *wrong_commands(one)])


def wrong_commands(one: Product) -> Iterator[str]:
    number = one.messages.number()
    yield one.run("suppressed", "add", f"{number}1")
    yield one.run("suppressed", "remove", grouped(number))
    listed = one.folder / "numbers.csv"
    listed.write_text(f"phone,reason,since,until\n{number}1,,,\n{number},,,{number}\n")
    yield one.run("suppressed", "import", str(listed))


def relay(one: Product) -> None:
    taken, gone = (f"{receiver.url}&token={RETURN_TOKEN}" for receiver in one.receivers)
    for n, message in enumerate(one.messages.relayed):
        phone, template, code = message.args
        answer = one.ask(
            (RELAY, SHOP)[n % 2],
            ("GET", "POST")[n % 3 == 0],
            mobphone=grouped(phone),
            smstemplate=template,
            code=code,
            lane=("otp", "notice", "bulk")[n % 3],
            key=f"relay {phone}",
            returnurl=(taken, gone, "")[n % 3],
        )
        assert answer["code"] == 200, answer
        message.id = answer["mid"]
    phone, template, code = one.messages.message().args
    asked = {"mobphone": phone, "smstemplate": template, "code": code}
    wrong: list[dict[str, str]] = [
        {"mobphone": f"{phone}1"},
        {"lane": phone},
        {"ttl_s": phone},
        {"smstemplate": ""},
        {"returnurl": f"https://elsewhere.example/{RETURN_TOKEN}"},
    ]
    answers = [one.ask(method=method, **asked | bad) for bad in wrong for method in ("GET", "POST")]
    answers.append(one.ask("not the secret", **asked))
    assert {answer["code"] for answer in answers} == {400}
    one.seen["paused", "the relay's refusals"] = str(answers)


def bare(one: Product) -> None:
    """Send as other languages do, and wait until a worker has taken all of it."""
    mine = one.messages
    good = [([mine.number(bare=True), "SMS_1", mine.code(bare=True)], {}) for _ in range(4)]
    rubbish = f"{mine.number(bare=True)} {mine.code(bare=True)}"
    named = {"task": "smsq.nobody_knows", "id": "bare-named"}
    shadow = {"task": "smsq.send_sms", "id": "bare-shadow", "shadow": rubbish, "argsrepr": rubbish}
    bodies = {f"bare-{n}": json.dumps([*one, {}]) for n, one in enumerate([*good, *mine.invalid])}
    bodies |= {"bare-text": rubbish, "bare-list": json.dumps([rubbish])}
    messages = [envelope(body, {"task": "smsq.send_sms", "id": i}) for i, body in bodies.items()]
    messages += [envelope(json.dumps([[rubbish], {}, {}]), head) for head in (named, shadow)]
    messages.append(envelope(rubbish, {}))
    for message in messages:
        one.client.lpush("sms.otp", message)
    ended = [*bodies, "bare-shadow"]
    eventually(lambda: all(ends(one, message_id) for message_id in ended))
    eventually(lambda: not one.client.exists("sms.otp", "unacked"))
    states = [ends(one, message_id) for message_id in ended]
    assert states == ["delivered"] * len(good) + ["failed"] * (len(ended) - len(good))


def ends(one: Product, message_id: str) -> str:
    status = read_status(one.client, "", message_id)
    return status.state if status and status.final else ""


def envelope(body: str, headers: dict[str, Any]) -> str:
    properties = {
        "body_encoding": "base64",
        "delivery_tag": base64.b64encode(random.randbytes(12)).decode(),
        "delivery_info": {"exchange": "", "routing_key": "sms.otp"},
    }
    message = {"body": base64.b64encode(body.encode()).decode(), "headers": headers}
    message |= {"content-type": "application/json", "content-encoding": "utf-8"}
    return json.dumps(message | {"properties": properties})


def hostile_reports(one: Product) -> None:
    number, code = one.messages.number(), one.messages.code()
    answers = [
        one.report(f'{{"mid": "{number}", "stat": '),
        one.report(f'{{"mid": ["{number}"], "stat": "{code}"}}'),
        one.report(f"mid={number}&code={code}"),
        one.report(f'{{"mid": "MID-1", "stat": "DELIVRD"}} {number}', number),
        one.report(f'["{number}", {{"{code}": 1}}]' * 4000),
        one.report('[{"mid": "MID-2", "stat": "DELIVRD"}, {"mid": "MID-2", "stat": "MA:9999"}]'),
    ]
    one.seen["end", "the door's answers to reports"] = str(answers)


def in_flight(one: Product) -> None:
    """Look while calls are under way, and while their results are on the disk alone."""
    one.signal("sandbox", signal.SIGSTOP)
    for message in one.messages.in_flight:
        phone, template, code = message.args
        message.id = one.ask(mobphone=phone, smstemplate=template, code=code)["mid"]
    eventually(lambda: is_under_way(one))
    one.client.config_set("min-replicas-to-write", 1)
    one.signal("sandbox", signal.SIGCONT)
    one.report('{"mid": "MID-3", "stat": "DELIVRD"}')
    eventually(lambda: all(spooled in one.files("home") for spooled in ("MID-3", "outcome")))
    one.seen["no writes", "home"] = one.files("home")
    one.client.config_set("min-replicas-to-write", 0)
    settled = {State.ACCEPTED, State.HELD, State.DELIVERED}
    eventually(lambda: {one.status(m).state for m in one.messages.in_flight} <= settled, 120)


def is_under_way(one: Product) -> bool:
    """Look at no more than attempts of 6 s leave time for, on a busy machine."""
    with Celery(broker=one.environ["SMSQ_REDIS_URL"], set_as_current=False) as app:
        active = str(app.control.inspect(one.workers, timeout=5).active())
    one.keep("in flight", {"inspect active": active})
    one.states["in flight"] = {one.status(message).state for message in one.messages.in_flight}
    is_shown = any(message.id in active for message in one.messages.in_flight)
    return is_shown and "sending" in one.states["in flight"]


def late_ends(one: Product) -> None:
    """Let reports that never came be given up, but for some; and one of them come late."""
    waiting = [m for m in settling(one) if one.status(m).state == State.ACCEPTED][::2]
    for message in waiting:
        one.client.zadd(keys.TIMERS, {message.id: 0}, xx=True)
    eventually(lambda: {one.status(message).state for message in waiting} == {State.UNREPORTED})
    mids = [one.status(message).attempts[-1].mid for message in waiting]
    one.report(json.dumps({"mid": next(filter(None, mids)), "stat": "DELIVRD"}))
    eventually(lambda: not one.client.exists(keys.INBOX, keys.NOTICES))


# --- what is to be seen ---------------------------------------------------------------------


def test_everything_was_met(product: Product) -> None:
    assert len(product.sent()) >= 200
    assert {"queued", "deferred", "duplicate"} <= product.states["paused"]
    assert "sending" in product.states["in flight"]
    assert product.states["end"] == {*State} - {"queued", "sending", "cancelled"}
    reasons = " ".join(str(product.status(message).reason) for message in product.sent())
    for reason in ("suppressed", "frequency", "resends"):
        assert f"local:{reason}" in reasons
    for place in ("suppressed", "parked", "held", "notices"):
        assert json.loads(product.seen["end", f"smsq {place} --json"])
    assert product.client.llen("shop")
    first = product.messages.singles[0].id
    for place in ("redis", "aof", "logs", "flower api/tasks?limit=5000", f"flower task/{first}"):
        assert first in product.seen["end", place]


def test_nothing_is_told(product: Product) -> None:
    secrets = product.messages.secrets
    leaks = {}
    for (moment, place), text in product.seen.items():
        hidden = secrets.all()
        if place in {"redis", "aof", "rewritten aof"}:
            hidden -= secrets.urls
        if place == "aof":
            hidden -= secrets.bare
        if told := found(text, hidden):
            leaks[moment, place] = sorted(told)[:5]
    assert leaks == {}


def test_receivers_are_told_masked_numbers_alone(product: Product) -> None:
    hidden = product.messages.secrets.all()
    bodies = [body.decode() for one in product.receivers for _, _, body in one.posts]
    assert not found("\n".join(bodies), hidden)
    phones = {body["data"]["phone"] for body in map(json.loads, bodies) if "data" in body}
    # A bare message that breaks the rules has none.
    assert len(phones) > 100
    assert all(re.fullmatch(r"1\d\d\*{4}\d{4}", phone) for phone in phones - {None})


def test_what_can_be_read_would_have_been_found(product: Product) -> None:
    number = "15900159000"
    product.client.lpush("planted", envelope(json.dumps([[number]]), {}))
    product.client.hset("smsq:planted", f"0086{number}", "1")
    (product.folder / "home" / "planted").write_text(f"+86 {number[:3]} {number[3:]}")
    for text in (everything(product.client), product.files("redis"), product.files("home")):
        assert found(text, {number}) == {number}
