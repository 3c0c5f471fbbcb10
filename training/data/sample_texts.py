"""Find the texts of a sample in its JSON and text members, however they were written.

A JSON member that follows the contract is decoded in one fast pass. Any other is read leniently (NaN, cut surrogates,
a byte order mark, a caption that is a list or a number), and never decides over a good text member.
"""

from typing import Any

import msgspec

from openwit.schemas.common.errors import DataError
from openwit.schemas.common.lenient_json import lenient_json
from openwit.schemas.common.text_files import decode_text


class CorruptSampleError(DataError):
    """A sample cannot be read. The training loader counts and skips it.

    Attributes:
        key: of the sample.
        reason: in words.
    """

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key = key
        self.reason = reason


class _Document(msgspec.Struct):
    """Keys of a sample's JSON member that training needs; img2dataset's own shards have a caption only."""

    caption: str | None = ""
    texts: tuple[str, ...] = ()
    text_sources: Any = ()


_DECODER = msgspec.json.Decoder(_Document)
_KEYS = ("texts", "caption", "captions", "text")
"""Keys under which writers of tars put the words of an image."""


def fast_texts(document: bytes | memoryview) -> tuple[str, ...]:
    """Return the texts of a JSON member that follows the contract; none if it does not, or has none."""
    return fast_words(document)[0]


def fast_words(document: bytes | memoryview) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the same texts, and where each was found, if the member says it of all."""
    try:
        found = _DECODER.decode(document)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return (), ()
    texts = found.texts or ((found.caption,) if found.caption else ())
    if not texts or not texts[0].strip():
        return (), ()
    sources = found.text_sources
    if not isinstance(sources, list) or len(sources) != len(texts):
        return texts, ()
    return texts, tuple(source if isinstance(source, str) else "" for source in sources)


def texts_of(key: str, document: bytes | memoryview, text: bytes | memoryview) -> tuple[tuple[str, ...], bool]:
    """Return the texts of a sample, and whether its JSON member had to be repaired or passed over.

    They are those of its JSON member (`texts`, else `caption`), else those of the text member. A JSON member that is
    not as it should be gives its words only where it has several `texts`, or where the text member gives none.

    Args:
        key: of the sample, for the message.
        document: the JSON member; empty if there is none.
        text: the text member; empty if there is none.

    Raises:
        CorruptSampleError: there is no text.
    """
    if texts := fast_texts(document) if len(document) else ():
        return texts, False
    found, reason = lenient_json(document) if len(document) else ({}, "")
    several = _words(found.get("texts")) if isinstance(found, dict) else ()
    texts = several or _text_member(text) or _of_document(found)
    if not texts:
        raise CorruptSampleError(key, f"no text; JSON member: {reason}" if reason else "no text")
    return texts, bool(reason)


def _of_document(found: Any) -> tuple[str, ...]:
    if isinstance(found, list):
        return _words(found)
    if not isinstance(found, dict):
        return ()
    return next(filter(None, (_words(found.get(key)) for key in _KEYS)), ())


def _words(value: Any) -> tuple[str, ...]:
    """Return the texts in a value that should be text: itself, those of a list, a number in digits."""
    if isinstance(value, str):
        value = " ".join(value.split("\0")).strip()
        return (value,) if value else ()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return (str(value),)
    if isinstance(value, list):
        return tuple(text for each in value if isinstance(each, (str, int, float)) for text in _words(each))
    return ()


def _text_member(raw: bytes | memoryview) -> tuple[str, ...]:
    text = decode_text(bytes(raw)).text.strip()
    return (text,) if text else ()
