"""Detect the charset of text that does not declare it."""

_UNDEFINED_IN_1252 = b"\x81\x8d\x8f\x90\x9d"


def detect_charset(data: bytes, *, language: str | None = None, top_level_domain: str | None = None) -> str:
    """Return the Python codec that explains bytes which are not valid UTF-8.

    Args:
        data: a part of the text; its end may be cut within a character.
        language: declared language of the text, ISO 639-1, as a hint.
        top_level_domain: of the text's URL, such as `pl`, as a hint.
    """
    del language, top_level_domain
    return "iso8859-1" if data.translate(None, _UNDEFINED_IN_1252) != data else "cp1252"
