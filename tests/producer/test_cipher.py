"""Numbers and codes as they stand in the ledger, and the keys that open them."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from cryptography.fernet import Fernet

from harness.backend import run
from smsq import keys
from smsq.cipher import FernetCipher, Opener, PlaintextCipher, Unreadable
from smsq.connection import connect
from smsq.errors import LedgerUnavailable, SettingsError
from smsq_worker.config.settings import Settings
from smsq_worker.infra.ports import free_port
from smsq_worker.ledger.key_rotation import renew

PHONE = "13800138000"
CODE = "code!482"
OLD, NEW, OTHER = (Fernet.generate_key().decode() for _ in range(3))

Keyed = Callable[..., Settings]


@pytest.fixture
def keyed(environ: dict[str, str]) -> Keyed:
    def settings(*payload_keys: str) -> Settings:
        return Settings.load(environ | {"SMSQ_PAYLOAD_KEYS": ",".join(payload_keys)})

    return settings


@pytest.fixture
def cipher(client: redis.Redis, keyed: Keyed) -> Callable[..., PlaintextCipher]:
    """Give the cipher of a process that has these keys, and needs none."""
    return lambda *payload_keys: Opener(client, keyed(*payload_keys))()


def sealed(cipher: PlaintextCipher) -> FernetCipher:
    assert isinstance(cipher, FernetCipher)
    return cipher


def start(client: redis.Redis, settings: Settings) -> FernetCipher:
    """Do what a worker does when it starts."""
    cipher = sealed(Opener(client, settings, strict=True)())
    renew(client, settings.rules, cipher)
    return cipher


def test_without_keys_a_payload_and_a_digest_are_what_they_were(
    client: redis.Redis, cipher: Callable[..., PlaintextCipher]
) -> None:
    plain = cipher()
    assert json.loads(plain.seal(PHONE, CODE)) == [PHONE, CODE]
    assert plain.open(plain.seal(PHONE, CODE)) == (PHONE, CODE)
    assert plain.phone_hash(PHONE) == keys.phone_hash(PHONE)
    digest, _ = plain.idempotency("login-1", PHONE, "T")
    assert digest == keys.phone_hash("login-1")
    assert client.dbsize() == 0


@pytest.mark.parametrize("code", [CODE, "", "验证码 4829", "gAAAAA looks like a token", "x" * 500])
def test_a_sealed_payload_shows_nothing_and_opens_again(
    cipher: Callable[..., PlaintextCipher], code: str
) -> None:
    payload = cipher(OLD).seal(PHONE, code)
    assert PHONE not in payload
    assert not code or code not in payload
    assert cipher(OLD).open(payload) == (PHONE, code)
    # A number must not carry its code to where it is kept longer.
    assert cipher(OLD).show(json.loads(payload)[0]) == PHONE
    # What was written before there were keys is read as it stands.
    assert cipher(OLD).open(cipher().seal(PHONE, code)) == (PHONE, code)


def test_the_digests_are_keyed_and_the_same_for_all(cipher: Callable[..., PlaintextCipher]) -> None:
    first, second = cipher(OLD), cipher(OLD)
    assert first.phone_hash(PHONE) == second.phone_hash(PHONE) != keys.phone_hash(PHONE)
    found = first.idempotency("k", PHONE, "T")
    assert found == second.idempotency("k", PHONE, "T")
    assert found[0] != keys.phone_hash("k")


def test_of_many_that_come_first_one_makes_the_lookup_key(environ: dict[str, str]) -> None:
    settings = Settings.load(environ | {"SMSQ_PAYLOAD_KEYS": OLD})

    def digest(_: int) -> str:
        client = connect(settings.redis_url)
        try:
            return Opener(client, settings)().phone_hash(PHONE)
        finally:
            client.close()

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(digest, range(16)))) == 1


def test_the_ledger_is_asked_once(client: redis.Redis, keyed: Keyed) -> None:
    cipher = Opener(client, keyed(OLD))
    who = cipher().phone_hash(PHONE)
    client.flushall()
    assert cipher().phone_hash(PHONE) == who
    assert client.dbsize() == 0


@pytest.mark.parametrize("steps", [[(NEW, OLD)], [(OLD, NEW), (NEW, OLD)], [(NEW, OLD), (NEW,)]])
def test_digests_and_payloads_outlive_a_change_of_keys(
    client: redis.Redis, keyed: Keyed, steps: list[tuple[str, ...]]
) -> None:
    before = start(client, keyed(OLD))
    who, payload = before.phone_hash(PHONE), before.seal(PHONE, CODE)
    for step in steps:
        after = start(client, keyed(*step))
        assert after.phone_hash(PHONE) == who
        if OLD in step:
            assert after.open(payload) == (PHONE, CODE)
        else:
            with pytest.raises(Unreadable):
                after.open(payload)


def test_while_keys_are_changed_whoever_has_one_of_them_gets_in(
    client: redis.Redis, keyed: Keyed, cipher: Callable[..., PlaintextCipher]
) -> None:
    who = start(client, keyed(OLD)).phone_hash(PHONE)
    start(client, keyed(NEW, OLD))
    assert (
        cipher(OLD).phone_hash(PHONE)
        == cipher(NEW).phone_hash(PHONE)
        == cipher(OTHER, NEW).phone_hash(PHONE)
        == who
    )
    before = client.get(keys.LOOKUP)
    start(client, keyed(OLD, NEW))
    assert client.get(keys.LOOKUP) == before, "nothing to do"
    start(client, keyed(NEW))
    with pytest.raises(SettingsError):
        cipher(OLD)


def test_other_keys_are_refused_with_a_word_of_what_is_allowed(
    client: redis.Redis, keyed: Keyed
) -> None:
    start(client, keyed(OLD))
    for strict in (False, True):
        with pytest.raises(SettingsError) as refused:
            Opener(client, keyed(OTHER), strict=strict)()
        (line,) = refused.value.problems
        assert line.startswith("SMSQ_PAYLOAD_KEYS: numbers and codes in this Redis are encrypted")
        assert OTHER not in line


def test_without_keys_only_a_producer_goes_on_where_others_have_them(
    client: redis.Redis, keyed: Keyed
) -> None:
    assert Opener(client, keyed(), strict=True)().open(f'["{PHONE}", ""]') == (PHONE, "")
    start(client, keyed(OLD))
    assert Opener(client, keyed())().phone_hash(PHONE) == keys.phone_hash(PHONE)
    with pytest.raises(SettingsError, match="SMSQ_PAYLOAD_KEYS: must be set"):
        Opener(client, keyed(), strict=True)()


def test_without_keys_a_token_is_not_taken_for_a_number(
    cipher: Callable[..., PlaintextCipher],
) -> None:
    payload = cipher(OLD).seal(PHONE, CODE)
    with pytest.raises(Unreadable):
        cipher().open(payload)
    with pytest.raises(Unreadable):
        cipher().show(json.loads(payload)[0])


def test_a_ledger_that_is_away_is_told_as_such_and_asked_again(
    client: redis.Redis, environ: dict[str, str]
) -> None:
    away = f"redis://127.0.0.1:{free_port()}/0"
    settings = Settings.load(environ | {"SMSQ_REDIS_URL": away, "SMSQ_PAYLOAD_KEYS": OLD})
    gone = connect(away)
    with pytest.raises(LedgerUnavailable):
        Opener(gone, settings)()
    gone.close()


# --- without the package --------------------------------------------------------------------

BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "cryptography":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
import smsq
try:
    print(smsq.send_sms.delay("13800138000", "SMS_1001", "482913").id)
except smsq.SettingsError as error:
    print(error)
"""


def test_a_producer_without_keys_needs_no_cryptography(
    environ: dict[str, str], client: redis.Redis
) -> None:
    message_id = run(BLOCKED, environ)
    assert json.loads(str(client.get(keys.payload(message_id)))) == [PHONE, "482913"]


def test_a_producer_with_keys_says_what_to_install(
    environ: dict[str, str], client: redis.Redis
) -> None:
    told = run(BLOCKED, environ | {"SMSQ_PAYLOAD_KEYS": OLD})
    assert told.startswith("SMSQ_PAYLOAD_KEYS: ")
    assert "pip install 'smsq[crypto]'" in told
    assert client.dbsize() == 0
