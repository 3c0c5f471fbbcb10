"""Drop texts with long runs of one letter or one word."""

import itertools
import re

from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.text.filters.base import TextContext, TextFilter, Verdict
from openwit.pipeline.text.settings import TextFilterSettings

REPEATED_CHARACTERS = Reason("repeated_characters", "a long run of one letter or word")


def repetition_filter(settings: TextFilterSettings) -> TextFilter:
    """Build the filter that drops runs above `max_character_run` letters or `max_word_run` words.

    Runs of dots or dashes are typography and are kept.
    """
    letter_run = re.compile(rf"([^\W\d_])\1{{{settings.max_character_run}}}")

    def check(text: str, context: TextContext) -> Verdict:  # noqa: ARG001
        if letter_run.search(text) or has_word_run(text, settings.max_word_run):
            return False, REPEATED_CHARACTERS
        return True

    return check


def has_word_run(text: str, longest: int) -> bool:
    """Return whether one word, in any case, occurs more than `longest` times in a row."""
    words = text.casefold().split()
    if len(words) - len(set(words)) < longest:
        return False
    run = 1
    for before, word in itertools.pairwise(words):
        run = run + 1 if word == before else 1
        if run > longest:
            return True
    return False
