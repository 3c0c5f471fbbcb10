"""Drop frequent texts that do not describe their image: "image", "logo", "click to enlarge"."""

import re

from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.text.filters.base import TextContext, TextFilter, Verdict
from openwit.pipeline.text.filters.boilerplate_entries import BOILERPLATE, BOILERPLATE_PATTERN
from openwit.pipeline.text.settings import TextFilterSettings

BOILERPLATE_TEXT = Reason("boilerplate", "a frequent text that says nothing of the image")

_MAX_CHARACTERS = 60
# Entries have up to six words; numbers and dashes may occur between them.
_MAX_SPACES = 9
_NOT_WORD = re.compile(r"[\W\d_]+")


def boilerplate_filter(settings: TextFilterSettings) -> TextFilter | None:
    """Build the filter that drops entries of the boilerplate list, ignoring numbers and punctuation."""
    if not settings.boilerplate:
        return None

    def check(text: str, context: TextContext) -> Verdict:  # noqa: ARG001
        return (False, BOILERPLATE_TEXT) if is_boilerplate(text) else True

    return check


def is_boilerplate(text: str) -> bool:
    """Return whether a text is an entry of the boilerplate list, ignoring numbers and punctuation."""
    if len(text) > _MAX_CHARACTERS or text.count(" ") > _MAX_SPACES:
        return False
    bare = _bare_words(text)
    return bare in _BARE_ENTRIES or BOILERPLATE_PATTERN.fullmatch(bare) is not None


def _bare_words(text: str) -> str:
    return " ".join(_NOT_WORD.sub(" ", text.casefold()).split())


_BARE_ENTRIES = frozenset(map(_bare_words, BOILERPLATE))
