"""Normalise text for matching: one definition of words and of their equality for queries and captions.

Case-folded and Unicode-normalised (NFKC, Unicode Standard Annex 15; caseless matching of the Unicode Standard,
section 3.13). Letters, digits and their marks make words, everything else separates. In scripts written without
spaces each character is a separate word, so that a query of several characters is an n-gram like any other.
"""

import unicodedata
from bisect import bisect
from functools import cache

# Blocks of scripts written without spaces between words: (first, last) code points.
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x0F00, 0x0FFF),  # Tibetan
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),  # Katakana phonetic extensions
    (0x3400, 0x4DBF),  # CJK extension A
    (0x4E00, 0x9FFF),  # CJK unified ideographs
    (0xF900, 0xFAFF),  # CJK compatibility ideographs
    (0x20000, 0x3FFFF),  # CJK extensions B and later
)
# Variation selectors choose a glyph (text or emoji style) and mean nothing to a word.
_SELECTORS = frozenset((*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))
# Where the blocks begin and where they end: an odd number of these is at or below a character of a block.
_UNSPACED_EDGES = [edge for first, last in _UNSPACED for edge in (first, last + 1)]
# Replacement for each ASCII byte.
ASCII_WORDS = bytes(ord(chr(code).lower()) if chr(code).isalnum() else ord(" ") for code in range(128)) + bytes(
    [ord(" ")] * 128
)


def word_part(character: str) -> str:
    """Return the replacement for a folded character in a text that is split at spaces."""
    code = ord(character)
    if code in _SELECTORS:
        return ""
    if unicodedata.category(character)[0] not in "LNM":
        return " "
    if bisect(_UNSPACED_EDGES, code) % 2:
        return f" {character} "
    return character


class _WordTable(dict[int, str]):
    """Map a code point to its replacement; filled as characters occur."""

    def __missing__(self, code: int) -> str:
        value = self[code] = word_part(chr(code))
        return value


@cache
def _word_table() -> _WordTable:
    return _WordTable()


def normalise(text: str) -> str:
    """Return the words of a text joined by single spaces; empty when it has none. Idempotent."""
    if text.isascii():
        return " ".join(text.encode("ascii").translate(ASCII_WORDS).decode("ascii").split())
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    # A fold may produce a sequence that folds again (U+0345); the second round makes the function idempotent.
    folded = unicodedata.normalize("NFKC", folded.casefold())
    found = folded.translate(_word_table()).split()
    return " ".join(word for word in found if not only_marks(word))


def only_marks(word: str) -> bool:
    """Return whether a word has only combining marks, no letter or digit: such a word is dropped."""
    return all(unicodedata.category(character)[0] == "M" for character in word)


def words(text: str) -> list[str]:
    """Return the words of a text, normalised."""
    return normalise(text).split()
