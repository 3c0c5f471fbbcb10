"""Text as it is found, made into text as it is trained on: entities, invisible characters, white space, NFC."""

import html
import re
import unicodedata

# printable ASCII without `&` and `<`, single spaces: nothing to do
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
_BLANKS = "\u2800\u3164\u115f\u1160\uffa0"  # they look like spaces and are none to Python


def _translation() -> dict[int, str | None]:
    table: dict[int, str | None] = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)))
    table.update(dict.fromkeys(map(ord, "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85"), " "))
    table.update(dict.fromkeys(map(ord, _ZERO_WIDTH + _BIDI_CONTROLS)))
    table.update(dict.fromkeys(map(ord, _BLANKS), " "))
    table.update(dict.fromkeys(range(0xD800, 0xE000)))  # lone surrogates: no text, and UTF-8 cannot hold them
    table.update(dict.fromkeys(range(0xE000, 0xF900), " "))  # private use: the glyphs of icon fonts
    table.update(dict.fromkeys((0xFFFE, 0xFFFF)))
    return table


_TRANSLATION = _translation()


def clean_text(raw: str) -> str:
    """Cleans a text; the empty string where nothing is left. Idempotent.

    Character references are undone however often they were escaped (only those with a semicolon: `AT&T` stays).
    HTML's common tags, which escaped alts and captions of tables carry, are dropped; `a < b` stays.
    Control characters, zero-width characters, bidirectional controls, private-use glyphs and replacement characters
    go; zero-width joiners stay between two non-ASCII characters, where emoji and several scripts need them. Every
    run of white space becomes one space, and the whole is in Unicode normal form C.
    """
    if _PLAIN.fullmatch(raw):
        return raw
    text = raw
    while (cleaned := _clean_once(text)) != text:
        # undoing one thing can uncover another: an entity inside an entity, a letter and its accent
        text = cleaned
    return text


def _clean_once(text: str) -> str:
    if "&" in text:
        text = _ENTITY.sub(lambda match: html.unescape(match.group()), text)
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
