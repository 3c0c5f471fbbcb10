"""Decode HTML character references of any length."""

import html
import re

_LONG_NUMBER = re.compile(r"&#(?:0*+([0-9]{8,}+)|[xX]0*+([0-9a-fA-F]{7,}+)|(0{9,}+[0-9]*+));?")


def unescape(text: str) -> str:
    """Return a text with its HTML character references decoded, as `html.unescape` does.

    A number beyond Unicode becomes U+FFFD, as the HTML Standard has it. `html.unescape` raises ValueError where a
    number has more digits than Python converts (4,300).
    """
    try:
        return html.unescape(text)
    except ValueError:
        return html.unescape(_LONG_NUMBER.sub(_short, text))


def _short(reference: re.Match[str]) -> str:
    zeros = reference.group(3)
    return "\ufffd" if zeros is None else f"&#{int(zeros.lstrip('0') or '0')};"
