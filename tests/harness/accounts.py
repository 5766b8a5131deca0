"""A file of two accounts: the one that was there, and another."""

from __future__ import annotations

from pathlib import Path

BACKUP = "backup"
BACKUP_SECRET = "backup-secret-Mb44"
BACKUP_TOKEN = "backup-token-0123456789"
MAIN = "[accounts.main]\nwas_default = true\n"
ROUTES = '[[routes]]\naccounts = ["main", "backup"]\n'


def backup(**fields: object) -> str:
    """Give an account's table; texts are taken as they are."""
    own = {"secret": BACKUP_SECRET, "report_token": BACKUP_TOKEN} | fields
    lines = [
        f'{name} = "{value}"' if isinstance(value, str) else f"{name} = {value}"
        for name, value in own.items()
    ]
    return "\n".join([f"[accounts.{BACKUP}]", *lines, ""])


def accounts_file(folder: Path, *tables: str) -> str:
    """Write a file that only its owner reads; give its path."""
    path = folder / "accounts.toml"
    path.touch(mode=0o600)
    path.write_text("\n".join(tables))
    return str(path)
