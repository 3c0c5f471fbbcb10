"""Strangers' texts on terminals and pages: every sink of them, with every hostile kind."""

import io
import logging
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.progress import Progress, TextColumn
from rich.table import Table
from rich.text import Text

from openwit.pipeline.cli.dataset import _print_some
from openwit.pipeline.cli.explain_report import print_explanation
from openwit.pipeline.cli.progress import ConsoleMessages, progress_note
from openwit.pipeline.cli.report import print_damage, print_examples
from openwit.pipeline.explain.lookup import DroppedPair
from openwit.pipeline.stages.card.page import _environment
from openwit.pipeline.stages.card.texts import web_address
from openwit.schemas.common.command import SafeConsole, user_errors
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.printable import printable
from openwit.training.cli.display import LiveDisplay, PlainDisplay

HOSTILE = {
    "colour": "a\x1b[31mb",
    "title": "a\x1b]0;owned\x07b",
    "clear": "a\x1b[2J\x1b[Hb",
    "C1": "a\x9b31mb",
    "return": "a\rb",
    "backspace": "ab\x08\x08c",
    "null": "a\x00b",
    "delete": "a\x7fb",
    "override": "a\u202etxt.exe",
    "isolate": "a\u2066b\u2069",
    "line": "a\nwit: all is well",
    "separator": "a\u2028b",
    "tags": "a\U000e0041b",
    "byte order mark": "a\ufeffb",
}
FORBIDDEN = {"Cc", "Zl", "Zp", "Cs"}
JOINERS = "\u200c\u200d"
# Of category Cf, and visible: signs before the digits that they enclose (Unicode: Prepended_Concatenation_Mark).
VISIBLE_FORMATS = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"


def harmless(shown: str, *, lines: int) -> bool:
    kinds = {unicodedata.category(c) for c in shown if c not in "\n\t"}
    formats = {c for c in shown if unicodedata.category(c) == "Cf"} - {*JOINERS, *VISIBLE_FORMATS, "\xad"}
    return not kinds & FORBIDDEN and not formats and shown.count("\n") <= lines


def console() -> SafeConsole:
    return SafeConsole(markup=False, file=io.StringIO(), width=300)


def read(to: SafeConsole) -> str:
    assert isinstance(to.file, io.StringIO)
    return to.file.getvalue()


def explained(to: SafeConsole, text: str) -> None:
    pair = DroppedPair(
        stage=text, reason=text, meaning=text, url=text, text=text, pair_id="x", detail=text, matched=()
    )
    print_explanation(to, [], [pair])


def progressing(to: SafeConsole, text: str) -> None:
    with Progress(TextColumn("{task.description}", markup=False), console=to) as bar:
        bar.add_task(text)


def tabled(to: SafeConsole, text: str) -> None:
    table = Table(title=text)
    table.add_column(text)
    table.add_row(Text(text))
    to.print(table)


def damaged(to: SafeConsole, text: str) -> None:
    first = {"archive_damaged": {"archive": "x", "detail": text}}
    manifest: Any = SimpleNamespace(extra={"damage": {"archive_damaged": 1}, "damage_first": first})
    print_damage(to, manifest, Path("f"))


def exampled(to: SafeConsole, text: str) -> None:
    manifest: Any = SimpleNamespace(extra={"examples": {"titles": [text]}, "by_source": {"titles": 1}})
    print_examples(to, manifest)


def logged(to: SafeConsole, text: str) -> None:
    ConsoleMessages(to).emit(logging.LogRecord("openwit.x", logging.WARNING, "", 0, "%s", (text,), None))


def noted(to: SafeConsole, text: str) -> None:
    snapshot = SimpleNamespace(tasks_done=0, rows=0, fraction=0.0, reasons=Counter({text: 1}))
    pace = SimpleNamespace(rate_and_left=lambda *_: (None, None))
    to.print(progress_note(snapshot, 1, "images", pace, 0.0))  # type: ignore[arg-type]


SINKS: dict[str, tuple[Callable[[SafeConsole, str], None], int]] = {
    "print": (lambda to, text: to.print(text, "x"), 2),
    "text": (lambda to, text: to.print(Text(text)), 2),
    "table": (tabled, 20),
    "progress": (progressing, 20),
    "explain": (explained, 8),
    "removal": (lambda to, text: _print_some(to, [text]), 1),
    "damage": (damaged, 9),
    "examples": (exampled, 9),
    "message": (logged, 2),
    "note": (noted, 2),
    "training, plain": (lambda to, text: PlainDisplay(to, 1).say(text), 1),
    "training, live": (lambda to, text: LiveDisplay(to).say(text), 9),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("sink", SINKS)
def test_no_sink_lets_a_control_character_through(sink: str, kind: str) -> None:
    to = console()
    show, lines = SINKS[sink]
    show(to, HOSTILE[kind])
    assert harmless(read(to), lines=lines), ascii(read(to))
    assert "a" in read(to) or "…" in read(to)  # a bar of one line shows the beginning


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_error_is_one_harmless_line(kind: str, capsys: Any) -> None:
    with pytest.raises(SystemExit), user_errors("wit"):
        raise DataError(f"{HOSTILE[kind]} cannot be read")
    assert harmless(capsys.readouterr().err, lines=1)


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_page_shows_what_it_would_obey(kind: str) -> None:
    page = _environment({}).from_string('<p title="{{ text }}">{{ text }}</p>').render(text=HOSTILE[kind] + "<b>")
    assert harmless(page, lines=2)
    assert "&lt;b&gt;" in page
    assert web_address(f"http://a.example/{HOSTILE[kind]}") is None


def test_every_invisible_character_is_escaped() -> None:
    assert harmless(printable("".join(map(chr, range(0x110000)))), lines=0)


@given(st.text())
def test_what_is_printable_stays_and_nothing_else_does(text: str) -> None:
    shown = printable(text)
    assert harmless(shown, lines=0)
    assert printable(shown) == shown
    assert printable("¡Señor! 日本 👩‍👩‍👧 می‌خواهم") == "¡Señor! 日本 👩‍👩‍👧 می‌خواهم"
    assert printable("a\tb\nc", lines=True) == "a\tb\nc"
