"""Judge an image that was fetched again: the same bytes, the same picture in another encoding, or another picture."""

from typing import Any, NamedTuple

import numpy as np

from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.download.status import FetchStatus
from openwit.pipeline.images.descriptor import is_similar
from openwit.pipeline.images.process import ImageReason

MAX_BITS = 6
"""Differing bits of the perceptual hash up to which a picture is the same; docs/duplicates.md has the measurements."""

SAME, REENCODED, CHANGED, GONE, OPTED_OUT = "same", "reencoded", "changed", "gone", "opted_out"
ALIVE = frozenset({SAME, REENCODED})

CHANGED_PICTURE = Reason("changed_picture", "the address now shows another picture than was locked")
IS_GONE = Reason("gone", "the image can no longer be had")
HAS_OPTED_OUT = Reason("opted_out", "robots.txt, a header or the blocklist now asks to stay away")
NOT_TRIED = Reason("not_tried", "the last round of refilling was over before it was asked for")
NO_LONGER_DRAWN = Reason("no_longer_drawn", "the last selection does not draw it, as an earlier one did")
INPUT_NOT_HERE = Reason("input_not_here", "its bytes lay in an input file that is not here")

REASON_OF = {CHANGED: CHANGED_PICTURE, GONE: IS_GONE, OPTED_OUT: HAS_OPTED_OUT}

_OPTED_OUT = {FetchStatus.OPTED_OUT, FetchStatus.ROBOTS_DISALLOWED, FetchStatus.BLOCKED_DOMAIN}
_UNREADABLE = {
    ImageReason.NOT_AN_IMAGE,
    ImageReason.TRUNCATED,
    ImageReason.DECODE_ERROR,
    ImageReason.UNSUPPORTED_MODE,
}
_GONE = {*map(str, FetchStatus), *map(str, _UNREADABLE), str(INPUT_NOT_HERE)} - {*map(str, _OPTED_OUT)}


class Verdict(NamedTuple):
    """What became of an image, one of the statuses of REHYDRATED, and a detail."""

    status: str
    detail: str | None = None


def judge_image(locked: dict[str, Any], found: dict[str, Any]) -> Verdict:
    """Compare an image with what was locked.

    Args:
        locked: sha256, pixels_hash, phash and fingerprint of the lock; pixels_hash and fingerprint may be null.
        found: the same of the image that was fetched.
    """
    if locked["sha256"] == found["sha256"]:
        return Verdict(SAME)
    if locked["pixels_hash"] is not None and locked["pixels_hash"] == found["pixels_hash"]:
        return Verdict(REENCODED, "equal pixels")
    bits = int(locked["phash"] ^ found["phash"]).bit_count()
    if bits > MAX_BITS:
        return Verdict(CHANGED, f"the perceptual hashes differ in {bits} bits")
    if locked["fingerprint"] is not None:
        a, b = (np.frombuffer(row["fingerprint"], np.uint8) for row in (locked, found))
        if not bool(is_similar(a, b)):
            return Verdict(CHANGED, f"the descriptors differ, the perceptual hashes only in {bits} bits")
    return Verdict(REENCODED, f"the perceptual hashes differ in {bits} bits")


def judge_drop(reason: str, detail: str | None) -> Verdict:
    """Say what a drop reason of fetch means for a locked image.

    A picture that no longer passes the checks is another one.
    """
    said = reason if not detail else f"{reason}: {detail}"
    if reason in _OPTED_OUT:
        return Verdict(OPTED_OUT, said)
    return Verdict(GONE if reason in _GONE else CHANGED, said)
