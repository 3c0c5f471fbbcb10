"""Define text filters: a callable `(text, context) -> True | (False, reason)`, built once per worker."""

import re
from collections.abc import Callable
from typing import NamedTuple

from openwit.pipeline.text.settings import TextFilterSettings

Verdict = bool | tuple[bool, str]
"""True keeps a text; False or (False, reason) drops it. The filters of this package always give a reason."""


class TextContext(NamedTuple):
    """The facts of a text besides its characters.

    Attributes:
        url: URL of the image.
        text_source: where the text was found: alt, title, figcaption, aria-label, link, og:description or table.
        image_source: where the image's URL was found: img, source, … or table.
        archive: the input file, as the recipe names it.
        page_url: URL of the page, None for a table.
        page_title: title of the page, empty if there is none.
        license: licence that the source names, None if there is none.
        language: ISO 639-1 code if the recipe selects languages, else None.
    """

    url: str = ""
    text_source: str = ""
    image_source: str = ""
    archive: str = ""
    page_url: str | None = None
    page_title: str = ""
    license: str | None = None
    language: str | None = None


def in_title(text: str, context: TextContext) -> bool:
    """Return whether a text occurs in the title of its page, as whole words in any case."""
    title = context.page_title.casefold()
    wanted = text.casefold()
    return wanted in title and re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", title) is not None


TextFilter = Callable[[str, TextContext], Verdict]
"""Decide on one text, as `clean_text` returns it. Pure: the same arguments give the same verdict."""

FilterFactory = Callable[[TextFilterSettings], TextFilter | None]
"""Build a filter from the settings; None where the settings switch it off."""
