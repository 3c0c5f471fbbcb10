"""Clean found text: character references, tags, invisible characters, white space, NFC; mojibake on request."""

import re
import unicodedata
from functools import cache

import ftfy

from openwit.schemas.common.html_text import unescape

# Printable ASCII without `&` and `<`, single spaces: already clean.
_PLAIN = re.compile(r"[!-%'-;=-~]+(?: [!-%'-;=-~]+)*")
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_BLOCK_TAG = re.compile(
    r"</?(?:br|p|div|li|ul|ol|h[1-6]|td|tr|hr)(?:\s[^<>=]{1,100}=[^<>]{0,500})?\s*/?>", re.IGNORECASE
)
_INLINE_TAG = re.compile(
    r"</?(?:a|abbr|b|big|cite|code|em|font|i|img|q|s|small|span|strong|sub|sup|u)(?:\s[^<>=]{1,100}=[^<>]{0,500})?\s*/?>",
    re.IGNORECASE,
)
_JOINERS = re.compile("[\u200c\u200d]+")

_ZERO_WIDTH = "\u00ad\u180e\u200b\u2060\u2061\u2062\u2063\u2064\ufeff\ufffc\ufffd\u034f"
_BIDI_CONTROLS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_BLANKS = "\u2800\u3164\u115f\u1160\uffa0"  # look like spaces, but Python does not treat them as spaces


def _translation() -> dict[int, str | None]:
    table: dict[int, str | None] = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)))
    table.update(dict.fromkeys(map(ord, "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85"), " "))
    table.update(dict.fromkeys(map(ord, _ZERO_WIDTH + _BIDI_CONTROLS)))
    table.update(dict.fromkeys(map(ord, _BLANKS), " "))
    table.update(dict.fromkeys(range(0xD800, 0xE000)))  # lone surrogates: UTF-8 cannot encode them
    table.update(dict.fromkeys(range(0xE000, 0xF900), " "))  # private use: the glyphs of icon fonts
    table.update(dict.fromkeys((0xFFFE, 0xFFFF)))
    return table


_TRANSLATION = _translation()


def clean_text(raw: str) -> str:
    """Clean a text; return the empty string if nothing remains. Idempotent.

    Character references are decoded however often they were escaped (only those with a semicolon: `AT&T` is kept).
    Common HTML tags, which escaped alts and captions in tables contain, are removed; `a < b` is kept.
    Control characters, zero-width characters, bidirectional controls, private-use glyphs and replacement characters
    are removed; zero-width joiners are kept between two non-ASCII characters, where emoji and several scripts need
    them. Every run of white space becomes one space, and the result is in Unicode normal form C.
    """
    if _PLAIN.fullmatch(raw):
        return raw
    text = raw
    while (cleaned := _clean_once(text)) != text:
        # One step can expose work for another: an entity inside an entity, a letter and its accent.
        text = cleaned
    return text


def _clean_once(text: str) -> str:
    if "&" in text:
        text = _ENTITY.sub(lambda match: unescape(match.group()), text)
    if "<" in text:
        text = _INLINE_TAG.sub("", _BLOCK_TAG.sub(" ", text))
    if not text.isascii() or not text.isprintable():
        text = text.translate(_TRANSLATION)
        text = unicodedata.normalize("NFC", text)
        if "\u200c" in text or "\u200d" in text:
            text = _JOINERS.sub(_needed_joiner, text)
    return " ".join(text.split())


def _needed_joiner(match: re.Match[str]) -> str:
    text = match.string
    before = text[match.start() - 1 : match.start()]
    after = text[match.end() : match.end() + 1]
    joins = before and after and not before.isascii() and not after.isascii()
    return match.group()[0] if joins and not before.isspace() and not after.isspace() else ""


def fix_mojibake(text: str) -> str:
    """Repair a text that was decoded with the wrong charset, by ftfy.

    Curly quotes, ligatures and full-width characters are unchanged.
    """
    fixed: str = ftfy.fix_text(text, _ftfy_config())
    return fixed


@cache
def _ftfy_config() -> ftfy.TextFixerConfig:
    return ftfy.TextFixerConfig(uncurl_quotes=False, fix_latin_ligatures=False, fix_character_width=False)
