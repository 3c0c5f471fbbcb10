"""Drop texts with too few or too many characters or words."""

import re

from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.text.filters.base import TextContext, TextFilter, Verdict, in_title
from openwit.pipeline.text.settings import TextFilterSettings

TOO_SHORT = Reason("too_short", "fewer characters or words than asked for")
TOO_LONG = Reason("too_long", "more characters than allowed")

# Scripts written without spaces: one character carries about as a word.
_DENSE = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")
_DENSE_WEIGHT = 3
_SHORT_WORDS = frozenset({"ax", "dj", "ev", "ox", "pc", "pi", "tv"})


def length_filter(settings: TextFilterSettings) -> TextFilter:
    """Build the filter that drops texts outside `min_characters`, `min_words` and `max_characters`.

    A word or name of two letters is kept, unless the settings ask for another length.
    """
    usual = settings.min_characters == TextFilterSettings.model_fields["min_characters"].default

    def check(text: str, context: TextContext) -> Verdict:
        if _is_too_short(text, settings.min_characters, settings.min_words):
            few_words = settings.min_words > 1
            return True if usual and not few_words and _is_short_name(text, context) else (False, TOO_SHORT)
        return True if len(text) <= settings.max_characters else (False, TOO_LONG)

    return check


def _is_too_short(text: str, min_characters: int, min_words: int) -> bool:
    if len(text) >= 2 * min_characters and min_words == 1:
        return False  # most texts
    dense = len(_DENSE.findall(text))
    if len(text) + dense * (_DENSE_WEIGHT - 1) < min_characters:
        return True
    return not dense and len(text.split()) < min_words


def _is_short_name(text: str, context: TextContext) -> bool:
    """Return whether two letters are a word, or a name: in capitals (VW), or written so in the page's title."""
    if len(text) != 2 or not text.isalpha():
        return False
    return (
        text.isupper()
        or text.casefold() in _SHORT_WORDS
        or (in_title(text, context) and text.upper() in context.page_title)
    )
