"""The code blocks of the documentation: which commands and which Python a page shows.

A block fenced as `sh` holds commands, one fenced as `python` a piece of Python; the pieces of a page are one program.
A block is run unless the line before it is `<!-- not run: REASON -->`; then only the flags are checked.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_SKIP = re.compile(r"<!-- not run: (.+) -->")
_FENCE = re.compile(r"^(```+)(\w*)\s*$")


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the line of its fence, its language, its text, and why it is not run (None: it is)."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def commands(self) -> list[str]:
        """The commands of a `sh` block, continuation lines joined."""
        joined = self.text.replace("\\\n", " ")
        return [line.strip() for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def pages() -> list[Path]:
    """Every page a user reads, the README first."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [page for page in [*found, *sorted((ROOT / "workflows").rglob("README.md"))] if page.exists()]


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    start, fence, language, reason = 0, None, "", None
    previous = ""
    for number, line in enumerate(lines, start=1):
        found = _FENCE.match(line)
        if fence is None and found:
            skip = _SKIP.fullmatch(previous.strip())
            start, fence, language, reason = number, found[1], found[2], skip[1] if skip else None
        elif fence is not None and line.strip() == fence:
            yield Block(page, start, language, "\n".join(lines[start : number - 1]) + "\n", reason)
            fence = None
        if line.strip():
            previous = line
    if fence is not None:
        raise ValueError(f"{page}:{start}: the block is not closed")


def words(command: str) -> list[str]:
    """A command as a shell splits it, without its comment and what is piped or redirected elsewhere."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars="|;&>")
    lexer.whitespace_split = True
    taken: list[str] = []
    for word in lexer:
        if set(word) <= set("|;&>"):
            break
        taken.append(word)
    return taken
