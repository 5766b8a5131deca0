"""A final message's fields: the ledger keeps most of them in two, as compaction.lua says."""

from __future__ import annotations

from typing import Final

from smsq.contract import Lane

_LANES: Final = {lane[0]: str(lane) for lane in Lane}


def unfolded(stored: dict[str, str]) -> dict[str, str]:
    """Return a message's fields one by one, whether it is final or not."""
    if "fold" not in stored:
        return stored
    fields = dict(stored)
    enqueued, accepted, finished, n, lane, phone, stat = fields.pop("fold").split(" ", 6)

    def time(after: str) -> str:
        return str(int(enqueued) + int(after)) if after else ""

    found = {
        "enqueued": enqueued,
        "accepted": time(accepted),
        "finished": time(finished),
        "n": n if n != "0" else "",
        "lane": _LANES[lane],
        "phone": phone and f"{phone[:3]}****{phone[3:]}",
        "stat": stat,
    }
    if n in fields:
        begun, mid = fields.pop(n).split(" ")
        fields |= {f"{n}:mid": mid, f"{n}:outcome": "accepted", f"{n}:detail": ""}
        found |= {f"{n}:at": time(begun), f"{n}:stat": stat}
    return fields | {name: value for name, value in found.items() if value}
