"""Prepare external texts and URLs for the page: cut to a length, queries marked, links to the web only."""

import re
from collections.abc import Iterator, Sequence

from openwit.pipeline.text.normalise import normalise
from openwit.schemas.common.printable import printable

MAX_CHARACTERS = 240
"""Of a text on the page; a caption may be thousands of characters long."""

_PIECES = re.compile(r"\w+|\W+")
_WEB = re.compile(r"https?://[^\s<>\"]+", re.IGNORECASE)
_LEAD = 60

Part = tuple[str, bool]


def clip(text: str, limit: int = MAX_CHARACTERS) -> str:
    """Return the text in one line, cut at `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def web_address(url: str | None) -> str | None:
    """Return the URL if a browser may follow it (http and https), else None; some licences are `javascript:` URLs."""
    return url if url and _WEB.fullmatch(url) and printable(url) == url else None


def marked(text: str, query: str, limit: int = MAX_CHARACTERS) -> list[Part]:
    """Return the text in parts, each with whether it is the query's; cut to about `limit` characters around the first.

    A query is where words of the text have its normal form; if none have (a query of another way of matching), where
    it occurs as a string.
    """
    line = " ".join(text.split())
    spans = list(_spans(line, query.split()))
    if not spans and query and (at := line.find(query)) >= 0:
        spans = [(at, at + len(query))]
    start = max(0, spans[0][0] - _LEAD) if spans and spans[0][1] > limit else 0
    end = min(len(line), max(start + limit, spans[0][1] if spans else 0))
    parts: list[Part] = [("…", False)] if start else []
    here = start
    for first, last in spans:
        if last > end:
            break
        parts += [(line[here:first], False), (line[first:last], True)]
        here = last
    parts.append((line[here:end], False))
    if end < len(line):
        parts.append(("…", False))
    return [part for part in parts if part[0]]


def _spans(line: str, words: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Return where runs of pieces have these words, from left to right, without overlap."""
    pieces = [piece for piece in _pieces(line) if piece[2]]
    n = 0
    while words and n < len(pieces):
        end = _match_at(pieces, n, words)
        if end is None:
            n += 1
        else:
            yield pieces[n][0], pieces[end][1]
            n = end + 1


def _match_at(pieces: Sequence[tuple[int, int, list[str]]], n: int, words: Sequence[str]) -> int | None:
    found: list[str] = []
    for end in range(n, min(n + len(words), len(pieces))):
        found += pieces[end][2]
        if found == list(words):
            return end
        if found != list(words[: len(found)]):
            return None
    return None


def _pieces(line: str) -> Iterator[tuple[int, int, list[str]]]:
    """Return (start, end, its words) of the pieces of a text: runs of letters; characters where these are words."""
    for run in _PIECES.finditer(line):
        words = normalise(run.group()).split()
        if len(words) <= 1:
            yield run.start(), run.end(), words
        else:
            for at, character in enumerate(run.group(), run.start()):
                yield at, at + 1, normalise(character).split()
