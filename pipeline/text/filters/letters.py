"""Drop texts without a letter."""

from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.text.filters.base import TextContext, TextFilter, Verdict
from openwit.pipeline.text.settings import TextFilterSettings

NO_LETTERS = Reason("no_letters", "digits, punctuation and symbols only")


def letters_filter(settings: TextFilterSettings) -> TextFilter:  # noqa: ARG001
    """Build the filter that drops texts of digits, punctuation and symbols only."""

    def check(text: str, context: TextContext) -> Verdict:  # noqa: ARG001
        return True if any(map(str.isalpha, text)) else (False, NO_LETTERS)

    return check
