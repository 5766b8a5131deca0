"""How numbers and codes are stored in the ledger: in plain text, or encrypted (SMSQ_PAYLOAD_KEYS).

With encryption nothing in Redis reveals a number: payloads are Fernet tokens, and entries that are
looked up by number or by idempotency key have a keyed digest, because all numbers can be tried in
seconds. That digest must outlive every Fernet key, so its own key is random, made once, and kept in
the ledger itself (smsq:lookup), encrypted with each Fernet key.

What was written before there were keys is still read.
"""

from __future__ import annotations

import json.encoder
from collections.abc import Sequence
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Final

from smsq import keys
from smsq.connection import Client, mapped_errors, perform
from smsq.errors import SettingsError
from smsq.settings import ProducerSettings
from smsq.steps import Steps, answered

if TYPE_CHECKING:
    from cryptography.fernet import Fernet, MultiFernet

NOT_INSTALLED: Final = (
    "SMSQ_PAYLOAD_KEYS: it needs a package that is not installed; pip install 'smsq[crypto]'"
)
NO_KEY_OPENS: Final = (
    "SMSQ_PAYLOAD_KEYS: numbers and codes in this Redis are encrypted with other keys; add one "
    "that was in use here, in any place"
)
KEYS_ARE_MISSING: Final = (
    "SMSQ_PAYLOAD_KEYS: must be set, because numbers and codes in this Redis are encrypted; give "
    "it the keys that the other processes have"
)


to_json: Final = json.JSONEncoder(ensure_ascii=False).encode
"""As json.dumps, which makes an encoder for each call that is not in ASCII."""
quoted: Final = json.encoder.encode_basestring
"""The same for a str."""


class Unreadable(Exception):  # noqa: N818 - says what is so
    """No key at hand decrypts a text, or smsq did not write it."""


KEPT: Final = 4
"""How much stands behind number and code of what may be sent again: see ends.lua."""


class PlaintextCipher:
    """Numbers and codes as they are, found by digests that have no key."""

    _lookup = b""

    def seal(self, phone: str, code: str) -> str:
        """Return a payload. Number and code apart: a suppressed number must not carry the code."""
        return f"[{quoted(self.hide(phone))}, {quoted(self.hide(code))}]"

    def open(self, payload: str) -> tuple[str, str]:
        """Return a payload's number and code. Raises Unreadable."""
        try:
            phone, code, *kept = json.loads(payload)
        except (ValueError, TypeError):
            raise Unreadable from None
        if len(kept) not in {0, KEPT}:
            raise Unreadable
        if not (isinstance(phone, str) and isinstance(code, str)):
            raise Unreadable
        # By the number alone: a code may be any text, even one that looks like a token.
        return (phone, code) if is_plain(phone) else (self._decrypt(phone), self._decrypt(code))

    def hide(self, text: str) -> str:
        """Return a text as it is to be stored; "" stays."""
        return text

    def show(self, phone: str) -> str:
        """Return a stored number in plain text; "" stays. Raises Unreadable."""
        return phone if is_plain(phone) else self._decrypt(phone)

    def phone_hash(self, phone: str) -> str:
        """Digest a number, so that what is kept by number does not show it."""
        return keys.phone_hash(phone, self._lookup)

    def idempotency(self, key: str, phone: str, template: str) -> tuple[str, str]:
        """Return the digest of an idempotency key, and of what it stands for.

        A digest of the key, because callers put numbers into theirs.
        """
        found = keys.fingerprint(key, phone, template, self._lookup)
        return keys.phone_hash(key, self._lookup), found

    def _decrypt(self, token: str) -> str:  # noqa: ARG002
        raise Unreadable


class FernetCipher(PlaintextCipher):
    """Numbers and codes encrypted with the first key, and read with any."""

    def __init__(self, keyring: Sequence[Fernet], wrapped: str) -> None:
        """Open what smsq:lookup holds. Raises SettingsError where no key does."""
        from cryptography.fernet import MultiFernet

        self._keyring = keyring
        self._all_keys = MultiFernet(keyring)
        opened = (_decrypted(self._all_keys, token) for token in wrapped.split())
        secret = next(filter(None, opened), None)
        if secret is None:
            raise SettingsError([NO_KEY_OPENS])
        self._secret = secret
        self._lookup = secret.encode()

    def hide(self, text: str) -> str:
        """Return a text as it is to be stored; "" stays."""
        return text and _encrypted(self._all_keys, text)

    def renewed(self, phone: str) -> str:
        """Return a stored number under the first key, unchanged if it is. Raises Unreadable."""
        is_new = _decrypted(self._keyring[0], phone) is not None
        return phone if is_new else self.hide(self.show(phone))

    def rewrapped(self, wrapped: str) -> str:
        """Return what smsq:lookup is to hold, unchanged if every key opens it and no other."""
        tokens = wrapped.split()
        opened = [[_decrypted(fernet, token) for token in tokens] for fernet in self._keyring]
        if len(tokens) == len(opened) and all(self._secret in row for row in opened):
            return wrapped
        return _wrapped(self._keyring, self._secret)

    def _decrypt(self, token: str) -> str:
        text = token and _decrypted(self._all_keys, token)
        if text is None:
            raise Unreadable
        return text


class Opener:
    """Returns the cipher, and asks the ledger for it the first time only.

    It raises LedgerUnavailable, and SettingsError where the ledger is encrypted with other keys.
    Without any key a producer goes on, as a message in plain text is better than none; `strict`
    is for processes that must find what others wrote.
    """

    def __init__(self, client: Client, settings: ProducerSettings, *, strict: bool = False) -> None:
        self._client = client
        self._settings = settings
        self._strict = strict
        self.opened: PlaintextCipher | None = None
        """What was opened before."""

    def __call__(self) -> PlaintextCipher:
        """Return the cipher."""
        return self.opened or perform(self._client, self.steps())

    def steps(self, certain: str = "") -> Steps[PlaintextCipher]:
        """Return the cipher. An error's text ends with what is `certain` then."""
        if self.opened is None:
            keyring = fernets(self._settings.payload_keys)
            with mapped_errors(self._settings.redis_url, certain, certain):
                self.opened = yield from self._open(keyring)
        return self.opened

    def _open(self, keyring: Sequence[Fernet]) -> Steps[PlaintextCipher]:
        if keyring:
            return FernetCipher(keyring, (yield from _lookup(keyring)))
        if self._strict:
            (is_encrypted,) = yield from answered([("EXISTS", keys.LOOKUP)])
            if is_encrypted:
                raise SettingsError([KEYS_ARE_MISSING])
        return PlaintextCipher()


def is_plain(phone: str) -> bool:
    """Return whether a stored number, or the lack of one, is not a token."""
    return not phone or phone.isdigit()


def fernets(payload_keys: Sequence[str]) -> list[Fernet]:
    """Return a Fernet for each of the keys. Raises SettingsError where it is not installed."""
    if not payload_keys:
        return []
    try:
        from cryptography.fernet import Fernet
    except ImportError:
        raise SettingsError([NOT_INSTALLED]) from None
    return [Fernet(key) for key in payload_keys]


def _lookup(keyring: Sequence[Fernet]) -> Steps[str]:
    asked = ("GET", keys.LOOKUP)
    (found,) = yield from answered([asked])
    if not found:
        # Several may do this at once, and the first one's stays.
        secret = _wrapped(keyring, token_urlsafe(32))
        _, found = yield from answered([("SET", keys.LOOKUP, secret, "NX"), asked])
    return str(found)


def _wrapped(keyring: Sequence[Fernet], secret: str) -> str:
    """Encrypt with each key, so that whoever has one of them gets in while keys are changed."""
    return " ".join(_encrypted(fernet, secret) for fernet in keyring)


def _encrypted(fernet: Fernet | MultiFernet, text: str) -> str:
    return fernet.encrypt(text.encode()).decode()


def _decrypted(fernet: Fernet | MultiFernet, token: str) -> str | None:
    from cryptography.fernet import InvalidToken

    try:
        return fernet.decrypt(token).decode()
    except (InvalidToken, ValueError):  # the latter of a token that is not ASCII
        return None
