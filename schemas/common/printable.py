"""Escape what a terminal or browser would obey instead of show, in strangers' texts: URLs, captions, messages.

The one place for it. Consoles of `command.make_console` and the pages of cards apply it to whatever they show; code
that puts such a text into one line of its own calls `printable`, which escapes line ends too.
"""

import re

# C0 and C1 controls (ANSI sequences begin with one), marks and overrides of writing direction, invisible operators,
# line separators, byte order mark, annotations, unpaired surrogates, invisible controls of hieroglyphs, shorthand and
# musical notation, tags. Joiners stay: letters and emoji need them.
_INVISIBLE = (
    "\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f"
)
_ALL = re.compile(f"[\x00-\x1f{_INVISIBLE}]")
_NOT_LINES = re.compile(f"[\x00-\x08\x0b-\x1f{_INVISIBLE}]")
_NAMES = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def printable(text: str, *, lines: bool = False) -> str:
    """Return a text with control characters escaped as in Python (`\\x1b`, `\\u202e`).

    Args:
        text: anything.
        lines: line ends and tabs stay, for texts of several lines.
    """
    return (_NOT_LINES if lines else _ALL).sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    code = ord(character)
    if character in _NAMES:
        return _NAMES[character]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
