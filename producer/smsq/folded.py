"""A final message's fields: the ledger keeps most of them in two, as fold.lua says."""

from __future__ import annotations


def unfolded(stored: dict[str, str]) -> dict[str, str]:
    """Give a message's fields one by one, whether it is final or not."""
    if "folded" not in stored:
        return stored
    fields = dict(stored)
    enqueued, accepted, finished, phone, stat = fields.pop("folded").split(" ", 4)

    def at(after: str) -> str:
        return str(int(enqueued) + int(after)) if after else ""

    found = {"enqueued": enqueued, "accepted": at(accepted), "finished": at(finished)}
    found |= {"phone": phone, "stat": stat}
    n = fields.get("n", "0")
    if n in fields:
        begun, mid = fields.pop(n).split(" ")
        fields[f"{n}:detail"] = ""
        found |= {f"{n}:at": at(begun), f"{n}:mid": mid, f"{n}:stat": stat}
        found |= {f"{n}:outcome": "accepted"}
    return fields | {name: value for name, value in found.items() if value}
