"""Drop texts that name who made a picture and nothing else."""

import re

from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.text.filters.base import TextContext, TextFilter, Verdict
from openwit.pipeline.text.settings import TextFilterSettings

CREDIT_LINE = Reason("credit_line", "says who made the picture and nothing else")

# "© Jane Doe/dpa", "Photo: Jane Doe / Getty Images": who made a picture, not what it shows
_CREDIT_MARK = re.compile(
    r"(?:©|\(c\)|copyright\b|(?:photo(?:graph)?|picture|image|foto|bild|imagen|credit|source|quelle|courtesy)s?"
    r"(?:\s(?:credit|courtesy))?\s*(?::|©|\bby\b))",
    re.IGNORECASE,
)
_CREDIT_WORDS = 7
_CREDIT_SMALL = frozenset({"by", "for", "of", "the", "and", "via", "from", "de", "di", "van", "/"})


def credit_line_filter(settings: TextFilterSettings) -> TextFilter | None:
    """Build the filter that drops a credit mark followed by names only."""
    if not settings.credit_lines:
        return None

    def check(text: str, context: TextContext) -> Verdict:  # noqa: ARG001
        return (False, CREDIT_LINE) if is_credit_line(text) else True

    return check


def is_credit_line(text: str) -> bool:
    """Return whether a text is a credit mark ("©", "Photo:") followed by at most seven words, all of them names."""
    mark = _CREDIT_MARK.match(text)
    if mark is None:
        return False
    names = text[mark.end() :].split()
    if len(names) > _CREDIT_WORDS:
        return False
    return all(
        name in _CREDIT_SMALL or not name[:1].isalpha() or not name[:1].islower() or "." in name for name in names
    )
