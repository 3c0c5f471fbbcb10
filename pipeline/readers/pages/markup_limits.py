"""Limit what markup of a page costs its parser: depth, open formatting elements, attributes, and repeated roots.

An HTML parser takes quadratic time in each of the four, as the HTML Standard defines it. Tags beyond a limit are left
out and counted; the text between them is kept. Ordinary pages are passed through after a test of a few counts.
"""

import re

import numpy as np
from numpy.typing import NDArray

MAX_DEPTH = 512
"""Open elements; deeper ones become children of the one at this depth, as in browsers."""

MAX_FORMATTING = 64
"""Open formatting elements (`<b>`, `<font>` …), which the parser opens again in each block."""

MAX_ATTRIBUTES = 256
"""Attributes of one tag."""

MAX_ROOTS = 16
"""`<html>` and `<body>` tags; the parser adds the attributes of each to those of the first."""

_MANY_OPEN = 1_000
_MANY_TAGS = 20_000
_LONG_TAG = 4096
_LESS, _SLASH, _B, _H, _O, _T, _LOWER = *b"</bhot", 0x20
_NAME = re.compile(rb"<[a-zA-Z][^\s<>/(){};,.=&|+\"']{0,99}[\s/]")
_QUOTED = re.compile(rb""""[^"]*(?:"|$)|'[^']*(?:'|$)""")

_TAG = re.compile(r"<(?:(!--)|(/?)([a-zA-Z][^\s/>\x00]*))")
# What follows the name of a usual tag: each value unquoted or directly behind its `=`.
_USUAL_REST = re.compile(r"""(?:[^>"'=]++|=(?:"[^"]*"|'[^']*')?+)*+>""")
_NEXT = re.compile(r"""[>"']""")
_ATTRIBUTE = re.compile(r"""[^\s"'=<>/]+(?:\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'>]+))?""")
_RAW = {
    name: re.compile(rf"</{name}(?![a-z])", re.IGNORECASE)
    for name in ("script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes")
}
_FORMATTING = frozenset({
    "a", "b", "big", "code", "em", "font", "i", "nobr", "s", "small", "strike", "strong", "tt", "u",
})  # fmt: skip
# They have no content, or end the one before them.
_FLAT = frozenset({
    "area", "base", "basefont", "bgsound", "br", "col", "embed", "frame", "hr", "image", "img", "input", "keygen",
    "link", "meta", "param", "source", "track", "wbr", "p", "li", "dt", "dd", "option", "optgroup", "tr", "td", "th",
    "tbody", "thead", "tfoot", "caption", "colgroup", "rb", "rp", "rt", "rtc", "head",
})  # fmt: skip
_ROOTS = frozenset({"html", "body"})
# Parts of drawings, which end with `/>`.
_DRAWN = frozenset(
    {"path", "use", "circle", "rect", "line", "polygon", "polyline", "ellipse", "stop", "image", "animate"}
)
# Images and elements that do not nest are never left out; a `<picture>` below the depth limit has no use.
_KEPT = _FLAT | _RAW.keys() | {"amp-img"}

_Codes = NDArray[np.uint8]
_Positions = NDArray[np.intp]


def limit_markup(document: bytes | str) -> tuple[bytes | str, int]:
    """Return a document as it is safe to parse, and the number of tags that were left out or cut."""
    if not _is_suspect(document):
        return document, 0
    text = document.decode("utf-8", "replace") if isinstance(document, bytes) else document
    return _Limiter(text).run()


def _is_suspect(document: bytes | str) -> bool:
    """Return whether a document may exceed a limit: many tags, many of them open, or one with many attributes."""
    data = document.encode("utf-8", "replace") if isinstance(document, str) else document
    codes = np.frombuffer(data, np.uint8)
    (starts,) = (codes == _LESS).nonzero()
    if len(starts) > _MANY_TAGS:
        return True
    if not len(starts):
        return False
    initials = codes.take(starts + 1, mode="clip")
    closes = initials == _SLASH
    opened = len(starts) - int(np.count_nonzero(closes))
    # Of most pages, all tags together are no more than may be open.
    if opened > _MANY_OPEN or len(starts) > 2 * _MANY_OPEN:
        depth = (1 - 2 * closes.view(np.int8)).cumsum(dtype=np.int32)
        # Above the lowest so far: end tags of nothing close no tag that opens after them.
        if (depth - np.minimum(np.minimum.accumulate(depth), 0)).max() > _MANY_OPEN:
            return True
    return _has_many_roots(codes, starts, initials | _LOWER) or _has_large_tag(data, starts)


def _has_many_roots(codes: _Codes, starts: _Positions, initials: _Codes) -> bool:
    seconds = codes.take(starts + 2, mode="clip") | _LOWER  # `<bo…` or `<ht…`
    roots = ((initials == _B) & (seconds == _O)) | ((initials == _H) & (seconds == _T))
    return int(np.count_nonzero(roots)) > MAX_ROOTS


def _has_large_tag(data: bytes, starts: _Positions) -> bool:
    """Return whether one of the tags that begin there has many attributes; most are followed closely by another."""
    (long,) = (starts[1:] - starts[:-1] > _LONG_TAG).nonzero()
    for start, end in zip(starts[long].tolist(), starts[long + 1].tolist(), strict=True):
        if _has_many_attributes(data, start, end):
            return True
    return _has_many_attributes(data, int(starts[-1]), len(data))


def _has_many_attributes(data: bytes, start: int, end: int) -> bool:
    if end - start <= _LONG_TAG or _NAME.match(data, start) is None:  # `a<b.c` of a script
        return False
    closed = data.find(b">", start, end)
    if closed >= 0 and not any(data.count(quote, start, closed) % 2 for quote in (b'"', b"'")):
        end = closed
    if end - start <= _LONG_TAG:
        return False
    outside_quotes = _QUOTED.sub(b" ", data[start:end]).partition(b">")[0]
    return len(outside_quotes.replace(b"/", b" ").split()) > MAX_ATTRIBUTES


class _Limiter:
    def __init__(self, text: str) -> None:
        self._text = text
        self._pieces: list[str] = []
        self._taken = 0
        self._left_out = 0
        self._open: dict[str, int] = {}
        self._depth = 0
        self._formatting = 0
        self._roots = 0

    def run(self) -> tuple[str, int]:
        text = self._text
        at = 0
        while (tag := _TAG.search(text, at)) is not None:
            if tag.group(1):
                end = text.find("-->", tag.start() + 2)
                if end < 0:
                    break
                at = end + 3
                continue
            name = tag.group(3).lower()
            at = self._end(tag.end())
            if tag.group(2):
                self._close(name)
            elif name in _DRAWN and text.endswith("/>", tag.start(), at):
                pass
            elif not self._may_open(name):
                self._cut(tag.start(), at, "")
            elif at - tag.end() > 2 * MAX_ATTRIBUTES:
                self._limit_attributes(tag.end(), at)
            if not tag.group(2) and name in _RAW:
                closing = _RAW[name].search(text, at)
                if closing is None:
                    break
                at = closing.start()
        self._pieces.append(text[self._taken :])
        return "".join(self._pieces), self._left_out

    def _end(self, at: int) -> int:
        """Return where the tag ends whose name ends at a position: behind its `>`, which no quotes enclose."""
        text = self._text
        usual = _USUAL_REST.match(text, at)
        if usual is not None:
            return usual.end()
        while (found := _NEXT.search(text, at)) is not None:
            at = found.end()
            if found.group() == ">":
                return at
            before = found.start() - 1
            while text[before].isspace():
                before -= 1
            if text[before] == "=":
                end = text.find(found.group(), at)
                if end < 0:
                    break
                at = end + 1
        return len(text)

    def _may_open(self, name: str) -> bool:
        """Count a start tag; return whether it is within the limits."""
        if name in _FORMATTING:
            if self._formatting >= MAX_FORMATTING or self._depth >= MAX_DEPTH:
                return False
            self._formatting += 1
        elif name in _ROOTS:
            self._roots += 1
            return self._roots <= MAX_ROOTS
        elif name in _KEPT:
            return True
        elif self._depth >= MAX_DEPTH:
            return False
        self._depth += 1
        self._open[name] = self._open.get(name, 0) + 1
        return True

    def _close(self, name: str) -> None:
        if self._open.get(name):
            self._open[name] -= 1
            self._depth -= 1
            self._formatting -= name in _FORMATTING

    def _limit_attributes(self, start: int, end: int) -> None:
        for number, attribute in enumerate(_ATTRIBUTE.finditer(self._text, start, end)):
            if number == MAX_ATTRIBUTES:
                self._cut(attribute.start(), end, ">")
                return

    def _cut(self, start: int, end: int, instead: str) -> None:
        self._pieces += (self._text[self._taken : start], instead)
        self._taken = end
        self._left_out += 1
