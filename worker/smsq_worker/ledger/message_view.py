"""What the ledger holds of one message at one moment: what is known and what waits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

import redis

from smsq import keys
from smsq.campaigns import CANCELLED, PAUSED, reading_apparent
from smsq.cipher import PlaintextCipher
from smsq.connection import Client, perform
from smsq.contract import FINAL
from smsq.tracking import Status, read_status
from smsq_worker.domain.accounts import qualified
from smsq_worker.domain.scopes import scopes_at
from smsq_worker.ledger import accounts, timestamps
from smsq_worker.ledger.payloads import opened
from smsq_worker.ledger.reading import asked, each

KINDS: Final = ("task", "returnurl", "webhook")
_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Telling:
    """A callback that its endpoint has not accepted yet."""

    name: str
    """As `smsq notices` takes it."""
    next_at: datetime | None
    """When it is tried next; None if it was given up."""
    tries: int
    error: str


@dataclass(frozen=True, slots=True)
class Trace:
    """A message, and everything that bears on what happens to it next."""

    at: datetime
    """When this was read, by the clock of the Redis server."""
    status: Status
    caller: str | None
    """The relay caller that sent it; None of SMSQ_RELAY_SECRET, or where no relay was used."""
    notify: str | None
    return_host: str | None
    expires_at: datetime | None
    due_at: datetime | None
    """When it could first go; None unless it has a `send_at` and is not accepted yet."""
    holds: bool
    """Whether doubt makes it wait for an operator."""
    otherwise: str | None
    """Fallback reason, to fail with if no further attempt can be made; without one it expires."""
    unpublished: bool
    """Whether its wake-up could not be published."""
    timer_at: datetime | None
    """When something happens if nothing else does; None where it is final or held."""
    held_since: datetime | None
    forgotten_at: datetime | None
    in_waiting_room: bool
    """Whether it waits for its template's pause to end."""
    number_rests: Mapping[str, datetime]
    """By the keys of accounts: until when one takes nothing for its number; absent: it does."""
    resumed: Mapping[str, datetime]
    """When each scope that concerns it was last resumed."""
    report_until: datetime | None
    """Until when a report for one of its mids is matched; None where it has none."""
    reused_mids: frozenset[str]
    """Mids that the gateway gave to another message too: no report on them is matched."""
    tellings: tuple[Telling, ...]
    asks_whom: bool
    """Whether a worker is still to determine its endpoints."""
    in_campaign_room: bool = False
    """Whether it waits for its campaign, which is paused or has its own rate."""
    is_campaign_paused: bool = False
    is_cancelled: bool = False
    """Whether it, or its campaign, was cancelled: there is no further attempt."""
    via: str | None = None
    """The key of the only account that it may go through; None where its route says."""
    redone_by: str | None = None
    """The message that sends it again; None where that redo was broken off before it was in."""


def read_trace(client: Client, url: str, message_id: str) -> Trace | None:
    """Read a message; None where nothing is known of it. Raises LedgerUnavailable."""
    trace = None
    for _ in range(_TRIES):
        status = read_status(client, url, message_id)
        if status is None:
            return None
        trace, state = asked(url, _read, client, status)
        if state == status.state:
            break  # otherwise it moved on in between
    return trace


def _read(client: Client, status: Status) -> tuple[Trace, str]:
    message, known = keys.message(status.id), ("", *accounts.known(client, ""))
    scopes = [scope for one in known for scope in scopes_at(one, status.template or "")]
    with client.pipeline() as pipe:
        pipe.time()
        pipe.hgetall(message)
        pipe.pttl(message)
        pipe.zscore(keys.TIMERS, status.id)
        pipe.zscore(keys.HELD, status.id)
        pipe.zscore(keys.WAITING + (status.template or ""), status.id)
        pipe.zscore(keys.CAMPAIGN_ROOM + (status.campaign or ""), status.id)
        pipe.hget(keys.campaign(status.campaign or ""), "stop")
        pipe.zscore(keys.NOTICES, f"new:{status.state}:{status.id}")
        pipe.hmget(keys.RESUMED, scopes)
        clock, fields, ttl, timer, held, waits, in_room, stop, new, resumed = pipe.execute()
    now = clock[0] * 1000 + clock[1] // 1000
    report_until, reused_mids = _mids(client, status, now)
    redone_by = fields.get("redone_by")
    trace = Trace(
        at=timestamps.at(now),
        status=status,
        caller=fields.get("caller"),
        notify=fields.get("notify"),
        return_host=urlsplit(fields["returnurl"]).hostname if "returnurl" in fields else None,
        expires_at=_at(fields.get("expires")),
        due_at=_at(fields.get("due")),
        holds="hold" in fields,
        otherwise=fields.get("otherwise"),
        unpublished=fields.get("published") == "0",
        timer_at=_at(timer),
        held_since=_at(held),
        forgotten_at=_after(now, [ttl]),
        in_waiting_room=waits is not None,
        in_campaign_room=in_room is not None,
        is_campaign_paused=stop == PAUSED,
        is_cancelled=CANCELLED in {stop, fields.get("stop")},
        number_rests=_rests(client, fields["who"], known, status.lane) if "who" in fields else {},
        resumed={scope: at for scope, ms in zip(scopes, resumed, strict=True) if (at := _at(ms))},
        report_until=report_until,
        reused_mids=reused_mids,
        tellings=tuple(_tellings(client, status.id)),
        via=fields["via"].removeprefix("@") if "via" in fields else None,
        redone_by=redone_by if redone_by and client.exists(keys.message(redone_by)) else None,
        asks_whom=new is not None,
    )
    shown = perform(client, reading_apparent("", fields)) if "state" in fields else {}
    return trace, str(shown.get("state", ""))


def _mids(client: Client, status: Status, now: int) -> tuple[datetime | None, frozenset[str]]:
    """Return until when a report for a message's mids is matched, and which it shares."""
    mids = {qualified(one.mid, one.account or ""): one.mid for one in status.attempts if one.mid}
    lead_to = each(client, "GET", map(keys.mid, mids))
    reused = {mid for mid, one in zip(mids, lead_to, strict=True) if _sharers(one)}
    lifetimes = each(client, "PTTL", map(keys.mid, mids.keys() - reused))
    return _after(now, lifetimes), frozenset(mids[mid] for mid in reused)


def _rests(client: Client, phone_hash: str, known: Sequence[str], lane: str) -> dict[str, datetime]:
    """Return until when accounts take nothing for a number in a lane: "<until> <lanes, or all>"."""
    own = keys.PHONE_HOLD + phone_hash
    holds: Any = client.mget([keys.at_account(own, one) for one in known])
    found = {}
    for one, hold in zip(known, holds, strict=True):
        until, *lanes = str(hold or "").split() or [""]
        if until and (not lanes or lane in lanes):
            found[one] = timestamps.at(float(until))
    return found


def _tellings(client: redis.Redis, message_id: str) -> Iterable[Telling]:
    """Yield the callbacks that wait, of each final state that the message came to."""
    for state in sorted(FINAL):
        with client.pipeline() as pipe:
            pipe.hgetall(keys.callback(state, message_id))
            names = [f"{kind}:{state}:{message_id}" for kind in KINDS]
            for name in names:
                pipe.zscore(keys.NOTICES, name)
                pipe.zscore(keys.DEAD_NOTICES, name)
            tried, *scores = pipe.execute()
        for name, waits, dead in zip(names, scores[::2], scores[1::2], strict=True):
            kind = name.partition(":")[0]
            if waits is not None or dead is not None:
                tries, error = tried.get(f"{kind}:tries", 0), tried.get(f"{kind}:error", "")
                yield Telling(name, _at(waits), int(tries), error)


def mid_of(client: Client, url: str, mid: str) -> tuple[int, str] | None:
    """Return the attempt and the message that a mid belongs to. Raises LedgerUnavailable."""
    for account in ("", *accounts.known(client, url)):
        leads_to = asked(url, client.get, keys.mid(qualified(mid, account)))
        attempt, _, message_id = str(leads_to or "").partition(" ")
        if message_id:
            return int(attempt), message_id
    return None


def number_of(client: Client, url: str, message_id: str, cipher: PlaintextCipher) -> str:
    """Return a message's whole number; "" once it has ended. Raises LedgerUnavailable."""
    payload: Any = asked(url, client.get, keys.payload(message_id))
    return opened(cipher, payload)[0] if payload else ""


def parked_of(client: Client, url: str, mid: str) -> tuple[str, datetime | None, list[str]] | None:
    """Return the account of a mid that leads to no message, and since when a report is parked.

    Then the first two messages of a mid that the gateway gave to several. None where nothing is
    known of it. Raises LedgerUnavailable.
    """
    for account in ("", *accounts.known(client, url)):
        own = qualified(mid, account)
        since = _at(asked(url, client.zscore, keys.PARKED, own))
        sharers = _sharers(asked(url, client.get, keys.mid(own)))
        if since or sharers:
            return account, since, sharers
    return None


def _sharers(leads_to: Any) -> list[str]:
    word, *ids = str(leads_to or "").split("\t")
    return [name.replace("\n", " ") for name in ids] if word == "reused" else []


def _at(ms: Any) -> datetime | None:
    return None if ms is None else timestamps.at(float(ms))


def _after(now: int, ttls: Iterable[int]) -> datetime | None:
    """Return when the last of some keys expires; a negative ttl: it is missing, or stays."""
    longest = max(ttls, default=0)
    return timestamps.at(now + longest) if longest > 0 else None
