"""Judge an image that was fetched again: the same bytes, the same picture in another encoding, or another picture."""

from typing import NamedTuple

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


def judge_images(locked: np.ndarray, found: np.ndarray) -> list[Verdict]:
    """Compare N images with what was locked.

    Args:
        locked: FACTS (N,) of the lock, where the hash of the pixels and the descriptor may be unknown.
        found: FACTS (N,) of the images that were fetched.
    """
    is_same = locked["sha256"] == found["sha256"]
    has_pixels = (locked["pixels_hash"] != b"") & (locked["pixels_hash"] == found["pixels_hash"])
    bits = np.bitwise_count(locked["phash"] ^ found["phash"])
    differs = locked["is_described"] & ~is_similar(locked["fingerprint"], found["fingerprint"])
    verdicts = [Verdict(SAME)] * len(locked)
    for row in np.flatnonzero(~is_same).tolist():
        if has_pixels[row]:
            verdicts[row] = Verdict(REENCODED, "equal pixels")
        elif bits[row] > MAX_BITS:
            verdicts[row] = Verdict(CHANGED, f"the perceptual hashes differ in {bits[row]} bits")
        elif differs[row]:
            verdicts[row] = Verdict(CHANGED, f"the descriptors differ, the perceptual hashes only in {bits[row]} bits")
        else:
            verdicts[row] = Verdict(REENCODED, f"the perceptual hashes differ in {bits[row]} bits")
    return verdicts


def judge_drop(reason: str, detail: str | None) -> Verdict:
    """Say what a drop reason of fetch means for a locked image.

    A picture that no longer passes the checks is another one.
    """
    said = reason if not detail else f"{reason}: {detail}"
    if reason in _OPTED_OUT:
        return Verdict(OPTED_OUT, said)
    return Verdict(GONE if reason in _GONE else CHANGED, said)
