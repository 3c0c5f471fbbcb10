"""Drop texts that hold a word or phrase of the user's list."""

import re
from dataclasses import dataclass
from pathlib import Path

from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.text.filters.base import TextContext, TextFilter, Verdict
from openwit.pipeline.text.settings import TextFilterSettings
from openwit.schemas.common.packed_lists import read_list
from openwit.schemas.common.text_files import decode_text, said

ADULT_WORD = Reason("adult_word", "holds a word of the recipe's list")

_NOT_WORD_CHARACTER = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class WordList:
    """Case-folded words, and phrases with a space at either end."""

    words: frozenset[str] = frozenset()
    phrases: tuple[str, ...] = ()


def adult_word_filter(settings: TextFilterSettings) -> TextFilter | None:
    """Build the filter that drops texts with an entry of the list `adult_words`.

    Raises:
        DataError: the list is missing or not UTF-8.
    """
    if settings.adult_words is None:
        return None
    entries = read_word_list(settings.adult_words)

    def check(text: str, context: TextContext) -> Verdict:  # noqa: ARG001
        return (False, ADULT_WORD) if has_entry(text, entries) else True

    return check


def read_word_list(path: Path) -> WordList:
    """Read a list with one word or phrase per line (blank lines and lines that start with # are skipped).

    Raises:
        DataError: the file is missing or cannot be read.
    """
    lines = said(decode_text(read_list(path, f"word list {path}")), f"word list {path}").splitlines()
    entries = {_spaced(line).strip() for line in lines if line.strip() and not line.lstrip().startswith("#")} - {""}
    return WordList(
        frozenset(entry for entry in entries if " " not in entry),
        tuple(sorted(f" {entry} " for entry in entries if " " in entry)),
    )


def has_entry(text: str, entries: WordList) -> bool:
    """Return whether a text holds a whole word or phrase of the list, in any case."""
    if not entries.words and not entries.phrases:
        return False
    spaced = _spaced(text)
    return not entries.words.isdisjoint(spaced.split()) or any(phrase in spaced for phrase in entries.phrases)


def _spaced(text: str) -> str:
    return f" {' '.join(_NOT_WORD_CHARACTER.sub(' ', text.casefold()).split())} "
