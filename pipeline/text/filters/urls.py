"""Drop addresses in place of a text."""

import re

from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.text.filters.base import TextContext, TextFilter, Verdict
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
    """Build the filter that drops a URL, a bare domain, an e-mail address, or a text that is mostly URLs."""
    if not settings.urls:
        return None

    def check(text: str, context: TextContext) -> Verdict:  # noqa: ARG001
        return (False, URL_TEXT) if is_address(text) else True

    return check


def is_address(text: str) -> bool:
    """Return whether a text is an address, or URLs are more than half of its characters."""
    if "." not in text:
        return False
    if " " not in text and (_BARE_DOMAIN.fullmatch(text) or _EMAIL.fullmatch(text)):
        return True
    in_urls = sum(len(url) for url in _URL.findall(text))
    return 2 * in_urls > len(text)
