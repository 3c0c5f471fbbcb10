import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.pipeline.download.status import FetchStatus
from openwit.pipeline.images.process import ImageReason
from openwit.pipeline.rehydration.fact_index import COMPARED, facts_of
from openwit.pipeline.rehydration.verdict import MAX_BITS, judge_drop, judge_images
from openwit.schemas.tables.images import IMAGES
from openwit.schemas.tables.locks import STATUSES

DESCRIPTOR = np.random.default_rng(0).integers(0, 256, 44, np.uint8).tobytes()


KINDS = pa.schema([IMAGES.arrow.field(name).with_nullable(True) for name in COMPARED])


def judge_image(locked, found):
    return judge_images(*(facts_of(pa.Table.from_pylist([each], schema=KINDS)) for each in (locked, found)))[0]


def facts(**changes):
    return {"sha256": "a", "pixels_hash": "p", "phash": 12345, "fingerprint": DESCRIPTOR, **changes}


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_hashes_within_the_bits_are_the_same_picture(a, b):
    locked = facts(phash=a, pixels_hash=None, fingerprint=None)
    status = judge_image(locked, facts(sha256="b", phash=b)).status
    assert status == ("reencoded" if (a ^ b).bit_count() <= MAX_BITS else "changed")


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (facts(phash=0), "same"),
        (facts(sha256="b", phash=~12345 & (2**64 - 1)), "reencoded"),
        (facts(sha256="b", pixels_hash="q"), "reencoded"),
        (facts(sha256="b", pixels_hash="q", fingerprint=bytes(255 - byte for byte in DESCRIPTOR)), "changed"),
    ],
)
def test_bytes_decide_before_pixels_and_pixels_before_hashes(found, status):
    assert judge_image(facts(), found).status == status


def test_every_drop_of_fetch_has_a_status():
    reasons = [*FetchStatus, *ImageReason, "filter_of_mine"]
    statuses = {reason: judge_drop(str(reason), None).status for reason in reasons}
    assert set(statuses.values()) < set(STATUSES)
    assert statuses[FetchStatus.OPTED_OUT] == statuses[FetchStatus.ROBOTS_DISALLOWED] == "opted_out"
    assert statuses[FetchStatus.HTTP_GONE] == statuses[ImageReason.NOT_AN_IMAGE] == "gone"
    assert statuses[ImageReason.TOO_SMALL] == statuses["filter_of_mine"] == "changed"
