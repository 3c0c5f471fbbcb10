from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.schemas.images.sniff import describe, sniff_format, webp_size


@pytest.mark.parametrize("name", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"])
def test_formats_by_their_first_bytes(photo: Any, encoded: Any, name: str) -> None:
    assert sniff_format(encoded(photo(64, 48), name)) == name


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b"", "empty"),
        (b"<svg xmlns='x'/>", "svg"),
        (b"\xef\xbb\xbf <?xml version='1.0'?>\n<svg/>", "svg"),
        (b"<!DOCTYPE html><p>", "html"),
        (b"  <HTML>", "html"),
        (b"<?xml version='1.0'?><rss/>", "xml"),
        (b"%PDF-1.7", "pdf"),
        (b'{"error": 1}', "json"),
        (b"PK\x03\x04", "zip"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "iso media 'heic'"),
        (b"BM and text that goes on for a while", "starts with 424d20616e642074"),
        (b"\x01\x02", "starts with 0102"),
    ],
)
def test_what_is_no_image_is_described(body: bytes, name: str) -> None:
    assert sniff_format(body) is None
    assert describe(body) == name


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": b"Exif\0\0II*\0"}])
def test_webp_size(photo: Any, encoded: Any, options: dict[str, Any]) -> None:
    assert webp_size(encoded(photo(123, 77), "WEBP", **options)) == (123, 77)


@given(st.binary(max_size=64))
def test_any_bytes_have_an_answer(body: bytes) -> None:
    assert sniff_format(body) is None or body
    assert describe(body)
    webp_size(b"RIFF\0\0\0\0WEBP" + body)
