import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from openwit.schemas.images.jpeg import scan_jpeg


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 3}])
def test_a_plain_file_is_left_as_it_is(photo: Any, encoded: Any, options: dict[str, Any]) -> None:
    body = encoded(photo(), **options)
    scan = scan_jpeg(body)
    assert scan is not None
    assert (scan.plain, scan.extra) == (True, False)
    assert scan.clean is body


def test_metadata_and_what_hides_behind_the_end_are_taken_out(photo: Any, encoded: Any) -> None:
    exif = Image.Exif()
    exif[0x010F] = "CameraMaker"
    secret = {"exif": exif, "comment": b"remark", "icc_profile": b"profile" * 9, "xmp": b"<x:xmpmeta/>"}
    body = encoded(photo(), **secret) + b"PK\x03\x04 an archive"
    scan = scan_jpeg(body)
    assert scan is not None
    assert scan.plain
    assert scan.extra
    for word in (b"CameraMaker", b"remark", b"profile", b"xmpmeta", b"an archive"):
        assert word in body
        assert word not in scan.clean
    assert scan.clean == encoded(photo())
    clean, whole = (Image.open(io.BytesIO(data)).tobytes() for data in (scan.clean, body))
    assert clean == whole


def test_colour_marker_of_cmyk_is_kept(photo: Any, encoded: Any) -> None:
    body = encoded(photo().convert("CMYK"))
    scan = scan_jpeg(body)
    assert scan is not None
    assert b"Adobe" in scan.clean


def test_files_without_an_end_are_refused(photo: Any, encoded: Any) -> None:
    body = encoded(photo())
    for length in (0, 2, 4, 30, len(body) // 2, len(body) - 2, len(body) - 1):
        assert scan_jpeg(body[:length]) is None


def test_other_codings_are_not_plain(photo: Any, encoded: Any) -> None:
    body = encoded(photo())
    arithmetic = body.replace(b"\xff\xc0", b"\xff\xc9", 1)
    scan = scan_jpeg(arithmetic)
    assert scan is not None
    assert not scan.plain


@given(st.binary(max_size=200))
def test_any_bytes_have_an_answer(body: bytes) -> None:
    scan_jpeg(body)
    scan = scan_jpeg(b"\xff\xd8" + body + b"\xff\xd9")
    assert scan is None or len(scan.clean) <= len(body) + 4
