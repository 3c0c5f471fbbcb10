"""Drop texts without a letter."""

import re

from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.text.filters.base import TextContext, TextFilter, Verdict, in_title
from openwit.pipeline.text.settings import TextFilterSettings

NO_LETTERS = Reason("no_letters", "digits, punctuation and symbols only")

_NAMED_NUMBER = re.compile("[0-9]{3,4}")


def letters_filter(settings: TextFilterSettings) -> TextFilter:  # noqa: ARG001
    """Build the filter that drops texts of digits, punctuation and symbols only.

    A number that the title of the page names, such as 747 or 1984, is kept.
    """

    def check(text: str, context: TextContext) -> Verdict:
        if any(map(str.isalpha, text)):
            return True
        return True if _NAMED_NUMBER.fullmatch(text) and in_title(text, context) else (False, NO_LETTERS)

    return check
