"""Seal JSON documents with a checksum of their own text, so that a changed bit is noticed by whoever reads them."""

import hashlib
import re

from openwit.schemas.common.errors import DataError

_SEAL = re.compile(r'\{"checksum": "([0-9a-f]{64})",')


class DamagedError(DataError):
    """A document is not the one that was written."""


def seal(text: str) -> str:
    """Return a JSON object with the sha256 of its text as first member, `checksum`.

    Args:
        text: of an object with at least one member.
    """
    assert text.startswith("{"), "only objects can be sealed"
    return f'{{"checksum": "{_checksum(text)}",{text[1:]}'


def unseal(data: bytes, where: object, *, required: bool = True) -> str:
    """Return the text that was sealed.

    Args:
        data: the document.
        where: it is, for the message.
        required: refuse a document without a seal, as earlier releases wrote them.

    Raises:
        DamagedError: the document is not the one that was sealed.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise DamagedError(f"{where} is damaged: it is no text") from None
    found = _SEAL.match(text)
    if found is None:
        if required or not text.strip():
            raise DamagedError(f"{where} is damaged: it is {'incomplete' if text.strip() else 'empty'}")
        return text
    rest = "{" + text[found.end() :]
    if _checksum(rest) != found[1]:
        raise DamagedError(f"{where} is damaged: it does not have the checksum it was written with")
    return rest


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
