"""Drop addresses in place of a text."""

import re

from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.text.filters.base import TextContext, TextFilter, Verdict, in_title
from openwit.pipeline.text.settings import TextFilterSettings

URL_TEXT = Reason("url_text", "a web or e-mail address instead of a description")

_URL = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
_BARE_DOMAIN = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+(?:com|org|net|info|biz|edu|gov|io|co|tv|me|shop|store|online|site|"
    r"de|fr|es|it|nl|pl|ru|uk|jp|cn|kr|br|mx|us|ca|au|in|se|no|dk|fi|ch|at|be|cz|pt|gr|tr|eu)(?:/\S*)?",
    re.IGNORECASE,
)
_EMAIL = re.compile(r"[^\s@]+@[^\s@]+\.[a-z]{2,}", re.IGNORECASE)


def url_filter(settings: TextFilterSettings) -> TextFilter | None:
    """Build the filter that drops a URL, a bare domain, an e-mail address, or a text that is mostly URLs.

    The domain by which a site or product is called is kept: with a capital (Booking.com), or in the page's title.
    """
    if not settings.urls:
        return None

    def check(text: str, context: TextContext) -> Verdict:
        return (False, URL_TEXT) if is_address(text) and not _is_name(text, context) else True

    return check


def _is_name(text: str, context: TextContext) -> bool:
    """Return whether a bare domain is written as a name, or occurs in the title of the page."""
    if "/" in text or "@" in text or " " in text or text[:4].casefold() == "www.":
        return False
    return text != text.lower() or in_title(text, context)


def is_address(text: str) -> bool:
    """Return whether a text is an address, or URLs are more than half of its characters."""
    if "." not in text:
        return False
    if " " not in text and (_BARE_DOMAIN.fullmatch(text) or _EMAIL.fullmatch(text)):
        return True
    in_urls = sum(len(url) for url in _URL.findall(text))
    return 2 * in_urls > len(text)
