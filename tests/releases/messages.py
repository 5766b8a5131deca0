"""What a test has a release do in a process of its own: `python messages.py send|read|write|go_on`.

Run with either release, so it uses only what both have. It prints JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import smsq
from smsq.app import app
from smsq.connection import connect
from smsq.contract import parse
from smsq_worker.ledger import Ledger, Report
from smsq_worker.runtime import Runtime

try:
    from smsq_worker.config.settings import Settings
    from smsq_worker.domain.states import Outcome
    from smsq_worker.infra.ports import free_port
    from smsq_worker.infra.spool import Spool
    from smsq_worker.ledger import Admitted, AttemptResult
    from smsq_worker.ledger.admin import Control
    from smsq_worker.sending.result_spool import ResultSpool
except ImportError:  # the names up to 0.2.0
    from smsq_worker.ledger import CameTo as AttemptResult
    from smsq_worker.ledger import Go as Admitted
    from smsq_worker.ledger.control import Control
    from smsq_worker.local.ports import free_port
    from smsq_worker.recorder import Recorder as ResultSpool
    from smsq_worker.settings import Settings
    from smsq_worker.spool import Spool
    from smsq_worker.states import Outcome

PHONES = "139000000"
SUPPRESSED = f"{PHONES}98"
KEYED = f"{PHONES}97"
TEMPLATE = "SMS_1001"
PAUSED = "SMS_2002"


def writer() -> Any:
    """The way into the ledger, by the name that it has in this release."""
    return app.ledger_writer if hasattr(type(app), "ledger_writer") else app.entrance


def send(prefix: str, count: str) -> dict[str, Any]:
    """Send messages as a backend does, one by one, in batches and scheduled; give their ids."""
    phones = [f"{prefix}{n:04}" for n in range(int(count))]
    ids: list[str] = []
    rows = ({"phone": phone, "template": TEMPLATE, "code": "482913"} for phone in phones[::2])
    smsq.send_many(rows, batch_size=20, on_batch=ids.extend)
    for n, phone in enumerate(phones[1::2]):
        later = {"send_at": time.time() + 2} if n % 5 == 0 else {}
        lane = ("otp", "notice")[n % 2]
        ids.append(smsq.send_sms.delay(phone, TEMPLATE, "482913", lane=lane, **later).id)
    return {"ids": ids}


def read(*ids: str) -> dict[str, Any]:
    """Read messages as a backend does; give their states."""
    found = {one: smsq.status(one) for one in ids or json.load(sys.stdin)}
    return {"states": {one: status and status.state for one, status in found.items()}}


class Writer:
    """Writes a ledger with a message in every state, by the acts of the release alone."""

    def __init__(self) -> None:
        self.settings = Settings.load(os.environ)
        self.runtime = getattr(Runtime, "build", Runtime)(self.settings)  # 0.2.0 has it
        # What a worker does when it starts.
        self.runtime.unlock()
        self.ledger = self.runtime.ledger
        self.control = Control(self.runtime.client, self.settings.rules, self.runtime.cipher)
        self._count = 0

    def enter(self, name: str, **options: Any) -> str:
        self._count += 1
        template = options.pop("template", TEMPLATE)
        phone = options.pop("phone", f"{PHONES}{self._count:02}")
        writer().enter(name, parse((phone, template, "482913"), options))
        return name

    def go(self, name: str, **options: Any) -> str:
        admission = self.ledger.admit(self.enter(name, **options))
        assert isinstance(admission, Admitted), admission
        return name

    def call(self, name: str, outcome: Outcome, wait_s: float = 1, **options: Any) -> str:
        mid = f"MID-{name}" if outcome is Outcome.ACCEPTED else ""
        self.go(name, **options)
        self.ledger.record(name, 1, outcome, detail="gateway:400", mid=mid, wait_s=wait_s)
        return name

    def report(self, name: str, stat: str, code_class: str) -> None:
        told = Report(stat, code_class, 1000, maybe_sent=False, counted_as=f"reports:{stat}:x")
        self.ledger.report(f"MID-{name}", stat, told)

    def run_out(self, name: str, *, ttl: bool = False) -> None:
        if ttl:
            self.runtime.client.hset(f"smsq:m:{name}", "expires", 1)
        self.runtime.client.zadd("smsq:timers", {name: 1})
        self.ledger.claim(resend_wait_s=1, empty=[])

    def live(self) -> None:
        smsq.send_sms.apply_async((f"{PHONES}99", TEMPLATE, "482913"), task_id="queued")
        writer().unpublished(self.enter("unpublished"))
        self.enter("scheduled", send_at=time.time() + 5)
        self.enter("tomorrow", send_at=time.time() + 86_400)
        self.call("retried", Outcome.NOT_SENT)
        self.call("doubtful", Outcome.MAYBE_SENT)
        self.call("held", Outcome.MAYBE_SENT, on_ambiguous="hold")
        self.go("sending")
        self.go("sending-and-hold", on_ambiguous="hold")
        self.call("accepted", Outcome.ACCEPTED)
        self.call("accepted-not-delivered", Outcome.ACCEPTED)
        self.call("resent", Outcome.ACCEPTED)
        self.report("resent", "MA:0006", "transient")
        self.control.pause(f"template:{PAUSED}", "test")
        self.ledger.admit(self.enter("waits-for-its-template", template=PAUSED))
        # Its report comes before its answer.
        self.report("early", "DELIVRD", "delivered")
        self.go("early")
        # Taken in by a door, and not reconciled.
        self.call("in-the-inbox", Outcome.ACCEPTED)
        self.ledger.take_in([("MID-in-the-inbox", "DELIVRD")], wake_after_s=0)
        # What a call came to while Redis was away.
        self.go("spooled")
        away = Ledger(connect(f"redis://127.0.0.1:{free_port()}/0"), self.settings.rules)
        result = AttemptResult("spooled", 1, Outcome.ACCEPTED, "", "MID-spooled")
        kept: Any = ResultSpool(away, Spool(self.settings.home / "spool", "calls"))
        if hasattr(kept, "keep"):
            kept.keep([result], smsq.LedgerUnavailable("it is away"))
        else:
            kept.record([result])
        self.enter("suppressed-later", phone=SUPPRESSED)
        self.control.pause("account", "test")

    def final(self) -> None:
        self.call("delivered", Outcome.ACCEPTED, notify="shop.tasks.done")
        self.report("delivered", "DELIVRD", "delivered")
        self.call("refused", Outcome.REFUSED)
        self.call("not-delivered", Outcome.ACCEPTED)
        self.report("not-delivered", "MA:0001", "permanent")
        self.run_out(self.enter("expired"), ttl=True)
        self.run_out(self.call("unreported", Outcome.ACCEPTED))
        self.enter("first", phone=KEYED, key="one key", send_at=time.time() + 5)
        self.enter("duplicate", phone=KEYED, key="one key")
        writer().refuse("invalid", "phone must be")
        self.control.suppress(SUPPRESSED, "operator", datetime.now(UTC) + timedelta(days=1))
        self.ledger.admit(self.enter("suppressed", phone=SUPPRESSED))

    def go_on(self) -> None:
        """Do what operators and running calls would, once the workers are another release's."""
        self.ledger.record("early", 1, Outcome.ACCEPTED, detail="", mid="MID-early")
        self.ledger.decide("held", "resend")
        self.control.resume(f"template:{PAUSED}", "test")
        self.control.resume("account", "test")
        writer().unpublished("suppressed-later")
        for name in ("sending", "sending-and-hold"):
            self.runtime.client.zadd("smsq:timers", {name: 1})


def write() -> dict[str, Any]:
    """Write such a ledger; give the states."""
    writer = Writer()
    writer.final()
    writer.live()
    return read_all(writer)


def go_on() -> dict[str, Any]:
    """Let such a ledger's messages go on; give the states."""
    writer = Writer()
    writer.go_on()
    return read_all(writer)


def read_all(writer: Writer) -> dict[str, Any]:
    """Read each message that the ledger holds."""
    found = [key.removeprefix("smsq:m:") for key in writer.runtime.client.scan_iter("smsq:m:*")]
    return read(*found)


if __name__ == "__main__":
    done = {"send": send, "write": write, "go_on": go_on, "read": read}[sys.argv[1]](*sys.argv[2:])
    done |= {"release": version("smsq"), "from": str(Path(smsq.__file__).parent.parent)}
    sys.stdout.write(json.dumps(done))
