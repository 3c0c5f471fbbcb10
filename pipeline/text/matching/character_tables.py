"""Tabulate the result of `normalise` for each character whose result does not depend on its neighbours.

NFKC works on a text as on its characters one by one wherever each character begins, decomposed, with a starter that
composes with nothing before it (Unicode Standard Annex 15: normalisation boundaries); folding case and separating
words look at single characters anyway. So this condition is checked for every form that a character passes through. A
mark that is not a starter is included as well if no form changes it and it composes with nothing, provided that it is
already in canonical order. Any other character is `UNSURE`, and a text that holds it is passed to `normalise` itself.
"""

import sys
import unicodedata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from openwit.pipeline.text.matching.array_file import load_arrays, read_only, save_arrays
from openwit.pipeline.text.matching.row_kernel import ALONE, MARK, NOTHING, PIECE, SAME, SEPARATOR, UNSURE
from openwit.pipeline.text.normalise import only_marks, word_part

# Jamo that join the syllable before them; their composition is arithmetic and in no table.
_JOINING_JAMO = frozenset(map(chr, (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))))
_BLOCK = 256
_UNASSIGNED = {"Cn", "Co", "Cs"}
# Version of the tables: increase it when their meaning changes.
_VERSION = 1
_known: "CharacterTables | None" = None


class CharacterTables(NamedTuple):
    """Arrays over all code points.

    facts: uint32, kind | order << 8 | last << 16. The kind: `SEPARATOR`; `NOTHING`, omitted; `SAME`, a letter or
        digit that is kept; `MARK`, kept, but not a word by itself; `ALONE`, kept as a separate word;
        `PIECE`, replaced by bytes in which spaces separate words; `UNSURE`. The order: combining class of a mark that
        is not a starter. The last: the highest combining class that the character ends with in any of its forms.
    piece_starts: int32, where the bytes of a `PIECE` begin; one entry more than there are code points.
    pieces: uint8, the bytes.
    """

    facts: np.ndarray
    piece_starts: np.ndarray
    pieces: np.ndarray


def character_tables() -> CharacterTables:
    """Return the tables for this Python's version of Unicode; made at the first call, in about a second."""
    global _known
    if _known is None:
        _known = _tabulated()
    return _known


def known_character_tables() -> CharacterTables | None:
    """Return the tables if this process has them."""
    return _known


def save_character_tables(path: Path) -> None:
    """Write the tables, for `load_character_tables`."""
    save_arrays(path, character_tables(), _facts())


def load_character_tables(path: Path) -> bool:
    """Take the tables from a file, which processes of a machine share; return whether this process has them now."""
    global _known
    if _known is None:
        found = load_arrays(path)
        if found is not None and found.facts == _facts():
            _known = CharacterTables(*found.arrays)
    return _known is not None


def _facts() -> dict[str, str | int]:
    return {"version": _VERSION, "unicode": unicodedata.unidata_version}


def _tabulated() -> CharacterTables:
    size = sys.maxunicode + 1
    # Unassigned and private characters and halves of surrogate pairs are separators.
    facts = np.full(size, SEPARATOR, np.uint32)
    lengths = np.zeros(size, np.int32)
    pieces: list[bytes] = []
    assigned = [character for block in _blocks() for character in block]
    joining = _joining(assigned)
    for character in assigned:
        code = ord(character)
        final, order, last = _final_form(character, joining)
        kind, piece = _kind(character, final) if final is not None else (UNSURE, b"")
        facts[code] = kind | order << 8 | last << 16
        if piece:
            lengths[code] = len(piece)
            pieces.append(piece)
    starts = np.zeros(size + 1, np.int32)
    np.cumsum(lengths, out=starts[1:])
    return CharacterTables(read_only(facts), read_only(starts), np.frombuffer(b"".join(pieces), np.uint8))


def _blocks() -> list[str]:
    """Return all characters in order, except whole blocks without assigned characters."""
    blocks = ("".join(map(chr, range(first, first + _BLOCK))) for first in range(0, sys.maxunicode + 1, _BLOCK))
    return [block for block in blocks if not _UNASSIGNED.issuperset(map(unicodedata.category, block))]


def _joining(characters: list[str]) -> frozenset[str]:
    """Return the characters that may compose with the one before them."""
    found = set(_JOINING_JAMO)
    for character in characters:
        decomposed = unicodedata.decomposition(character)
        if decomposed and decomposed[0] != "<":
            found.update(chr(int(part, 16)) for part in decomposed.split()[1:])
    return frozenset(found)


def _final_form(character: str, joining: frozenset[str]) -> tuple[str | None, int, int]:
    """Return a character folded and normalised (None if that depends on its neighbours), its order and last order."""
    order = unicodedata.combining(character)
    decomposed = unicodedata.normalize("NFKD", character)
    if decomposed == character and character.casefold() == character:
        return (None if character in joining else character), order, order
    if order:
        return None, order, order
    form, last = character, 0
    for _ in range(2):
        decomposed = unicodedata.normalize("NFKD", form)
        if unicodedata.combining(decomposed[0]) or decomposed[0] in joining:
            return None, 0, 0
        last = max(last, unicodedata.combining(decomposed[-1]))
        form = unicodedata.normalize("NFKC", form).casefold()
    decomposed = unicodedata.normalize("NFKD", form)
    if unicodedata.combining(decomposed[0]) or decomposed[0] in joining:
        return None, 0, 0
    return unicodedata.normalize("NFKC", form), 0, max(last, unicodedata.combining(decomposed[-1]))


def _kind(character: str, final: str) -> tuple[int, bytes]:
    """Return the kind of a character with this final form, and its piece."""
    spread = "".join(map(word_part, final))
    if not spread:
        return NOTHING, b""
    if spread == character:
        return (MARK if unicodedata.category(character)[0] == "M" else SAME), b""
    if spread == f" {character} ":
        return (SEPARATOR if unicodedata.category(character)[0] == "M" else ALONE), b""
    found = spread.split()
    # Marks alone between separators are not a word. At an edge it depends on the neighbour.
    if found and ((spread[0] != " " and only_marks(found[0])) or (spread[-1] != " " and only_marks(found[-1]))):
        return UNSURE, b""
    kept = " ".join(word for word in found if not only_marks(word))
    if not kept:
        return SEPARATOR, b""
    return PIECE, (" " * (spread[0] == " ") + kept + " " * (spread[-1] == " ")).encode()
