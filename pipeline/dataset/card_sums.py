"""Keep the checksums of a card beside it, in the format of `sha256sum`: the manifest cannot list the card,
which cites it.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping

from openwit.pipeline.dataset.store import DatasetStore
from openwit.schemas.manifest import MANIFEST_NAME

CARD_FILES = ("card.html", "card.json")
CARD_SUMS = "card.sha256"
CARD = (*CARD_FILES, CARD_SUMS)
"""Every file of a card."""

_LISTED = (*CARD_FILES, MANIFEST_NAME)
_LINE = re.compile(r"([0-9a-f]{64})  (\S+)")


def sums_text(files: Mapping[str, bytes]) -> str:
    """Return the text of `card.sha256` for the files of a card and the manifest that it was made of, by name."""
    return "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in _LISTED)


def card_problems(store: DatasetStore) -> Iterator[str]:
    """Yield what is wrong with the card of a dataset; nothing for a dataset without a card."""
    there = {name for name in CARD if store.size(name) is not None}
    if not there:
        return
    remedy = "write it again with `wit card`"
    if CARD_SUMS not in there:
        yield f"{CARD_SUMS}: missing, so the card cannot be checked: {remedy}"
        return
    sums = _parse(store.read(CARD_SUMS))
    if sums is None:
        yield f"{CARD_SUMS}: damaged, so the card cannot be checked: {remedy}"
        return
    for name in CARD_FILES:
        if name not in there:
            yield f"{name}: missing, but {CARD_SUMS} lists it: {remedy}"
        elif hashlib.sha256(store.read(name)).hexdigest() != sums[name]:
            yield f"{name}: sha256 differs from that in {CARD_SUMS}, the bytes have changed: {remedy}"
    if hashlib.sha256(store.read(MANIFEST_NAME)).hexdigest() != sums[MANIFEST_NAME]:
        yield f"{MANIFEST_NAME}: sha256 differs from that in {CARD_SUMS}: it has changed since the card was written"


def _parse(data: bytes) -> dict[str, str] | None:
    found = [_LINE.fullmatch(line) for line in data.decode(errors="replace").split("\n")[:-1]]
    sums = {match[2]: match[1] for match in found if match is not None}
    return sums if data.endswith(b"\n") and len(found) == len(sums) and set(sums) == set(_LISTED) else None
