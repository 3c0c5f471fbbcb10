"""Text filters: drop texts that do not describe their image, each with a reason.

One file per family. A family is a factory `(settings) -> filter`, called once per worker; a filter is a pure function
`(text, context) -> True | (False, reason)`. To add a family, write its file and list its factory in `FAMILIES` and its
reasons in `TEXT_REASONS`. Your own filters need no change here: the recipe names them
(`candidates.filters.custom`, see `openwit.pipeline.common.custom_filters`).
"""

import sys
from collections.abc import Sequence

from openwit.pipeline.text.filters.adult_words import ADULT_WORD, adult_word_filter
from openwit.pipeline.text.filters.base import FilterFactory, TextContext, TextFilter, Verdict
from openwit.pipeline.text.filters.boilerplate import BOILERPLATE_TEXT, boilerplate_filter
from openwit.pipeline.text.filters.credit_lines import CREDIT_LINE, credit_line_filter
from openwit.pipeline.text.filters.file_names import FILE_NAME, file_name_filter
from openwit.pipeline.text.filters.length import TOO_LONG, TOO_SHORT, length_filter
from openwit.pipeline.text.filters.letters import NO_LETTERS, letters_filter
from openwit.pipeline.text.filters.repetition import REPEATED_CHARACTERS, repetition_filter
from openwit.pipeline.text.filters.urls import URL_TEXT, url_filter
from openwit.pipeline.text.settings import TextFilterSettings

__all__ = [
    "FAMILIES",
    "TEXT_REASONS",
    "FilterFactory",
    "TextContext",
    "TextFilter",
    "Verdict",
    "build_asked_filters",
    "build_filters",
    "drop_reason",
]

FAMILIES: tuple[FilterFactory, ...] = (
    length_filter,
    letters_filter,
    file_name_filter,
    url_filter,
    boilerplate_filter,
    credit_line_filter,
    repetition_filter,
    adult_word_filter,
)
"""Factories of all families, in the order in which their filters are applied."""

TEXT_REASONS = (
    TOO_SHORT,
    TOO_LONG,
    NO_LETTERS,
    FILE_NAME,
    URL_TEXT,
    BOILERPLATE_TEXT,
    CREDIT_LINE,
    REPEATED_CHARACTERS,
    ADULT_WORD,
)
"""Reasons that the families give, in the order in which they are applied."""

# Values of limits that no text reaches.
_NO_LIMIT = {
    "min_characters": 1,
    "min_words": 1,
    "max_characters": sys.maxsize,
    "max_character_run": 1_000_000,
    "max_word_run": 1_000_000,
}
_NO_CONTEXT = TextContext()


def build_filters(settings: TextFilterSettings) -> list[TextFilter]:
    """Build the filters that the settings switch on, in order.

    Raises:
        DataError: a word list cannot be read.
    """
    made = (factory(settings) for factory in FAMILIES)
    return [check for check in made if check is not None]


def build_asked_filters(settings: TextFilterSettings) -> list[TextFilter]:
    """Build the filters that the user asked for: limits that differ from their defaults, and the word list.

    Raises:
        DataError: a word list cannot be read.
    """
    fields = TextFilterSettings.model_fields
    changed = {key for key in _NO_LIMIT if getattr(settings, key) != fields[key].default}
    only = settings.model_copy(update={key: limit for key, limit in _NO_LIMIT.items() if key not in changed})
    made = [
        length_filter(only) if changed & {"min_characters", "min_words", "max_characters"} else None,
        repetition_filter(only) if changed & {"max_character_run", "max_word_run"} else None,
        adult_word_filter(only),
    ]
    return [check for check in made if check is not None]


def drop_reason(text: str, filters: Sequence[TextFilter], context: TextContext = _NO_CONTEXT) -> str | None:
    """Return the first reason to drop a text, or None to keep it.

    Args:
        text: as `clean_text` returns it.
        filters: from `build_filters`.
        context: what else is known of the text; the title of the page and the place of the text keep short names.
    """
    for check in filters:
        verdict = check(text, context)
        if verdict is not True:
            assert isinstance(verdict, tuple)
            return verdict[1]
    return None
