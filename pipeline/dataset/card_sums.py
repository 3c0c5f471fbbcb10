"""Keep the checksums of a card beside it, in the format of `sha256sum`: the manifest cannot list the card,
which cites it.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping

from openwit.pipeline.dataset.store import DatasetStore
from openwit.schemas.manifest import MANIFEST_NAME

README = "README.md"
CROISSANT = "croissant.json"
ATTRIBUTION = "attribution.csv"
ATTRIBUTION_HEADER = "author,licence,images\n"
CARD_SUMS = "card.sha256"
_REQUIRED = ("card.html", "card.json")
CARD_FILES = (*_REQUIRED, README, CROISSANT, ATTRIBUTION)
CARD = (*CARD_FILES, CARD_SUMS)
"""Every file of a card. README, CROISSANT and ATTRIBUTION may be somebody's own, and earlier releases did not write
them: then the checksums do not list them.
"""
_PERHAPS_OWN = (README, CROISSANT, ATTRIBUTION)
_LISTED = (*CARD_FILES, MANIFEST_NAME)
_MARK = b"wit card"
_LINE = re.compile(r"([0-9a-f]{64})  (\S+)")


def sums_text(files: Mapping[str, bytes]) -> str:
    """Return the text of `card.sha256` for the files of a card and the manifest that it was made of, by name."""
    listed = [name for name in _LISTED if name in files]
    return "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in listed)


def is_own(name: str, data: bytes | None) -> bool:
    """Return whether a file of `_PERHAPS_OWN` was written by somebody else, and must be kept: it lacks our mark."""
    mark = ATTRIBUTION_HEADER.encode() if name == ATTRIBUTION else _MARK
    return name in _PERHAPS_OWN and data is not None and mark not in data


def delete_card(store: DatasetStore) -> None:
    """Delete the files of a card; a README of somebody's own stays."""
    for name in CARD:
        data = store.read(name) if name in _PERHAPS_OWN and store.size(name) is not None else None
        if not is_own(name, data):
            store.delete(name)


def card_problems(store: DatasetStore) -> Iterator[str]:
    """Yield what is wrong with the card of a dataset; nothing for a dataset without a card."""
    there = {name for name in CARD if store.size(name) is not None}
    own = {name for name in there & set(_PERHAPS_OWN) if is_own(name, store.read(name))}
    if not there - own:
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
        if name not in sums:
            if name in there - own:
                yield f"{name}: {CARD_SUMS} does not list it, so it cannot be checked: {remedy}"
        elif name not in there:
            yield f"{name}: missing, but {CARD_SUMS} lists it: {remedy}"
        elif hashlib.sha256(store.read(name)).hexdigest() != sums[name]:
            yield f"{name}: sha256 differs from that in {CARD_SUMS}, the bytes have changed: {remedy}"
    if hashlib.sha256(store.read(MANIFEST_NAME)).hexdigest() != sums[MANIFEST_NAME]:
        yield f"{MANIFEST_NAME}: sha256 differs from that in {CARD_SUMS}: it has changed since the card was written"


def _parse(data: bytes) -> dict[str, str] | None:
    found = [_LINE.fullmatch(line) for line in data.decode(errors="replace").split("\n")[:-1]]
    sums = {match[2]: match[1] for match in found if match is not None}
    named = {*_REQUIRED, MANIFEST_NAME} <= set(sums) <= set(_LISTED)
    return sums if data.endswith(b"\n") and len(found) == len(sums) and named else None
