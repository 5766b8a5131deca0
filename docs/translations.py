"""Keep the Chinese catalogue: gather every message, write it for translation, compile it.

`docs/generate.py` calls this. Messages are those that the code marks, each paragraph and option of
every command's help, and what click itself says.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import fields
from io import BytesIO
from pathlib import Path
from typing import Final, get_args

import click
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

import smsq_worker
from smsq.contract import State
from smsq.tracking import Status
from smsq_worker.api.metrics import CAUSES
from smsq_worker.cli import COMMANDS, group
from smsq_worker.cli.helpers.translated_help import by_paragraphs, one_line
from smsq_worker.doctor.finding import Level
from smsq_worker.domain.codes import CodeClass, Scope
from smsq_worker.i18n import DOMAIN, FOLDER
from smsq_worker.i18n.told import CONTEXT as TOLD
from smsq_worker.inspection.accounts import AccountState
from smsq_worker.ledger.admin import BREAKER

PO: Final = FOLDER / "zh_CN" / "LC_MESSAGES" / f"{DOMAIN}.po"
MO: Final = PO.with_suffix(".mo")

_KEYWORDS: Final = {"_": None, "N_": None, "ngettext": (1, 2), "pgettext": ((1, "c"), 2)}
_WORKER: Final = Path(smsq_worker.__file__).parent
_CLICK: Final = Path(click.__file__).parent
_METHODS: Final = {
    _WORKER: [("**.py", "python")],
    # What click says of a command line that is wrong; the rest is for its programmers.
    _CLICK: [
        (f"{name}.py", "python")
        for name in ("core", "decorators", "exceptions", "formatting", "parser", "types")
    ],
}
_UNTRANSLATED: Final = {"id", "attempts", "campaign", "redo_of"}
_WORDS: Final[dict[str, Iterable[str]]] = {
    "account": get_args(AccountState),
    "cause": sorted({cause for causes in CAUSES.values() for cause in causes}),
    "class": CodeClass,
    "field": [one.name for one in fields(Status) if one.name not in _UNTRANSLATED],
    "level": get_args(Level),
    # Of doctor's; gateway is followed by an account's name where there are several.
    "part": (
        *("ledger", "sentinels", "settings", "queues", "schema", "functions", "messages"),
        *("encryption", "clocks", "spool", "gateway", "accounts", "test numbers", "door"),
    ),
    "scope": (*Scope, BREAKER),
    "state": (*State, "parked", "reused"),
}
"""Words that the code looks up by their context: those of enumerations, and of fields."""
_PLACEHOLDER: Final = re.compile(r"\{(\w+)[^{}]*\}|%\((\w+)\)s")
_STATE: Final = re.compile(rf"(?<![\w`./:-])({'|'.join(State)})(?![\w`/:-])")
_COMMAND: Final = re.compile(r"smsq [a-z-]+( [a-z]+)?|--[a-z-]+")


def extracted() -> Catalog:
    """Return every message without a translation."""
    catalog = Catalog(domain=DOMAIN)
    for folder, methods in _METHODS.items():
        for file, _line, message, _comments, context in extract_from_dir(
            str(folder), methods, keywords=_KEYWORDS
        ):
            catalog.add(message, context=context, locations=[(f"{folder.name}/{file}", 1)])
    for context, words in _WORDS.items():
        for word in words:
            catalog.add(word, context=context, locations=[(f"words:{context}", 1)])
    for name, text in helps():
        catalog.add(text, locations=[(f"help:{name.replace(' ', '-')}", 1)])
    # Templates of errors stand there alone; tests/i18n/test_told.py looks for them in the code.
    for message in _written():
        if message.context == TOLD:
            catalog.add(message.id, context=TOLD, locations=[(TOLD, 1)])
    return catalog


def helps() -> Iterator[tuple[str, str]]:
    """Yield each text of the commands' help, with the command's name."""
    root = group()
    yield from (("smsq", text) for text in (*texts_of(root), *COMMANDS.values()))
    yield from _below(root, click.Context(root, info_name="smsq"), "")


def texts_of(command: click.Command) -> list[str]:
    """Return each text of a command's help that is translated on its own."""
    found: list[str] = []

    def note(text: str) -> str:
        found.append(text)
        return text

    for text in (command.help, command.epilog):
        by_paragraphs(text, note)
    if command.short_help:
        note(command.short_help)
    for param in command.params:
        if isinstance(param, click.Option) and param.help:
            note(one_line(param.help))
    return found


def _below(command: click.Group, context: click.Context, before: str) -> Iterator[tuple[str, str]]:
    for name in command.list_commands(context):
        _name, inner, _rest = command.resolve_command(context, [name])
        if inner is None:
            raise RuntimeError(name)
        yield from ((f"{before}{name}", text) for text in texts_of(inner))
        if isinstance(inner, click.Group):
            yield from _below(inner, click.Context(inner, parent=context), f"{before}{name} ")


def renewed() -> Catalog:
    """Return the catalogue with the messages of now: new ones are empty, others are gone."""
    catalog = _written()
    catalog.update(extracted(), no_fuzzy_matching=True, update_creation_date=False)
    catalog.obsolete.clear()
    catalog.last_translator, catalog.msgid_bugs_address = "smsq", "none"
    return catalog


def _written() -> Catalog:
    with PO.open("rb") as file:
        return read_po(file, locale="zh_CN", domain=DOMAIN)


def po_bytes(catalog: Catalog) -> bytes:
    """Return the catalogue as translators edit it, without what changes at every write."""
    out = BytesIO()
    write_po(out, catalog, width=100, include_lineno=False, sort_output=True, omit_header=False)
    return out.getvalue()


def mo_bytes(catalog: Catalog) -> bytes:
    """Return the catalogue as gettext reads it."""
    out = BytesIO()
    write_mo(out, catalog)
    return out.getvalue()


def write() -> None:
    """Write both files."""
    catalog = renewed()
    PO.write_bytes(po_bytes(catalog))
    MO.write_bytes(mo_bytes(catalog))


def problems() -> Iterator[str]:
    """Name what is not translated, not used any more, or translated wrongly."""
    catalog = renewed()
    name = PO.relative_to(_WORKER.parent)
    if PO.read_bytes() != po_bytes(catalog):
        yield f"{name}: not what the code says; run docs/generate.py"
    if MO.read_bytes() != mo_bytes(catalog):
        yield f"{name.with_suffix('.mo')}: not what the .po says; run docs/generate.py"
    for message in catalog:
        if message.id:
            yield from (f"{name}: {_shown(message)}: {problem}" for problem in _wrong(message))


def _wrong(message: Message) -> Iterator[str]:
    texts = message.string if isinstance(message.string, (tuple, list)) else (message.string,)
    ids = message.id if isinstance(message.id, (tuple, list)) else (message.id,)
    if not all(texts):
        yield "has no translation"
        return
    for text in texts:
        # Chinese has one form, so it takes the placeholders of the plural.
        if not _names(ids[-1]) - {"n"} <= _names(text) <= _names(ids[-1]) | _names(ids[0]):
            yield f"has not the same placeholders: {text}"
        if words := _STATE.findall(_COMMAND.sub("", text)):
            yield f"leaves states in English ({', '.join(words)}): {text}"


def _names(text: str) -> set[str]:
    return {named or percent for named, percent in _PLACEHOLDER.findall(text)}


def _shown(message: Message) -> str:
    text = message.id if isinstance(message.id, str) else message.id[0]
    return repr(inspect.cleandoc(text)[:60])
