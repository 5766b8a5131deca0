"""Messages from before there were payload keys: encrypted before anything is done with them."""

from __future__ import annotations

import json
import logging
from typing import Any

from smsq import keys
from smsq.cipher import FernetCipher, PlaintextCipher, Unreadable, to_json
from smsq_worker.ledger.acts import Acts

log = logging.getLogger(__name__)


class EncryptingActs(Acts):
    """The base of acts that must not leave a number in plain text where there are payload keys."""

    _warned_of_plain = False

    def _encrypt(self, cipher: PlaintextCipher, message_id: str, payload: str) -> bool:
        """Encrypt a message's payload; return False where it is malformed."""
        phone, code = opened(cipher, payload)
        if not phone:
            return False
        now, digest = cipher.seal(phone, code), cipher.phone_hash(phone)
        if kept := json.loads(payload)[2:]:  # of what may be sent again: ends.lua
            kept[2:3] = [digest]
            now = to_json([*json.loads(now), *kept])
        of_message = keys.message(message_id), keys.payload(message_id)
        self._run_plain("seal", payload, now, digest, keys=of_message)
        return True

    def _encrypt_message_of(self, mid: str) -> None:
        """Encrypt a message whose number is about to be kept for long."""
        cipher = self._cipher()
        if isinstance(cipher, FernetCipher):
            known = self._ask(self._client.get, keys.mid(mid))
            message_id = str(known or "").partition(" ")[2]
            payload: Any = self._ask(self._client.get, keys.payload(message_id))
            if payload:
                self._encrypt(cipher, message_id, payload)

    def _warn_of_plain(self) -> None:
        if not self._warned_of_plain:
            self._warned_of_plain = True
            log.warning(
                "messages come in plain text and are encrypted only here: they were sent before "
                "SMSQ_PAYLOAD_KEYS was set, or by a producer that does not have it"
            )


def opened(cipher: PlaintextCipher, payload: str) -> tuple[str, str]:
    """Return a payload's number and code; both "" where no key at hand opens it."""
    try:
        return cipher.open(payload)
    except (Unreadable, ValueError, TypeError):  # the latter two: malformed
        return "", ""
