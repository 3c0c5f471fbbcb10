"""Drop frequent texts that do not describe their image: "image", "logo", "click to enlarge"."""

import re

from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.text.filters.base import TextContext, TextFilter, Verdict, in_title
from openwit.pipeline.text.filters.boilerplate_entries import BOILERPLATE, BOILERPLATE_PATTERN, DRAWN, NAMES
from openwit.pipeline.text.settings import TextFilterSettings

BOILERPLATE_TEXT = Reason("boilerplate", "a frequent text that says nothing of the image")

_MAX_CHARACTERS = 60
# Entries have up to six words; numbers and dashes may occur between them.
_MAX_SPACES = 9
_CONTROL = re.compile(
    r"(?:icons?|sprites?|btn|buttons?|nav|menu|social|share|logos?|spacer|theme)s?(?![a-z])|/(?:facebook|twitter|linkedin"
    r"|instagram|youtube|pinterest|google|reddit|tiktok)[^/]*$",
    re.IGNORECASE,
)
_NOT_WORD = re.compile(r"[\W\d_]+")


def boilerplate_filter(settings: TextFilterSettings) -> TextFilter | None:
    """Build the filter that drops entries of the boilerplate list, ignoring numbers and punctuation.

    A thing that a picture may show ("star") is dropped only on a control of the page, a company's name only where the
    title of the page does not name it, or on a control.
    """
    if not settings.boilerplate:
        return None

    def check(text: str, context: TextContext) -> Verdict:
        if is_boilerplate(text):
            named = _bare_words(text) in NAMES and in_title(text, context) and not _is_control(context)
            return True if named else (False, BOILERPLATE_TEXT)
        if len(text) <= _MAX_CHARACTERS and _bare_words(text) in DRAWN and _is_control(context):
            return False, BOILERPLATE_TEXT
        return True

    return check


def _is_control(context: TextContext) -> bool:
    """Return whether a text is that of a link, or its image is part of a page's controls by its URL."""
    return context.text_source in ("link", "title", "aria-label") or _CONTROL.search(context.url) is not None


def is_boilerplate(text: str) -> bool:
    """Return whether a text is an entry of the boilerplate list, ignoring numbers and punctuation."""
    if len(text) > _MAX_CHARACTERS or text.count(" ") > _MAX_SPACES:
        return False
    bare = _bare_words(text)
    return bare in _BARE_ENTRIES or BOILERPLATE_PATTERN.fullmatch(bare) is not None


def _bare_words(text: str) -> str:
    return " ".join(_NOT_WORD.sub(" ", text.casefold()).split())


_BARE_ENTRIES = frozenset(map(_bare_words, BOILERPLATE))
