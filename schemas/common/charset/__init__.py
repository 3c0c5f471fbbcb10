"""Detect the encoding of bytes that declare none, for pages, tables and lists."""

from openwit.schemas.common.charset.detection import detect
from openwit.schemas.common.parts import MissingPartError

__all__ = ["detect", "detect_or_western"]

_SAMPLE_BYTES = 1 << 20


def detect_or_western(data: bytes) -> str:
    """Return the Python codec of text that is not valid UTF-8 and declares nothing, such as a list of a user's.

    It is windows-1252 where the profiles of languages, which come with `openwit[build]`, are not installed.

    Args:
        data: the text, or a beginning of it; its end may be cut within a character.
    """
    try:
        return detect(data[:_SAMPLE_BYTES])
    except MissingPartError:
        return "cp1252"
