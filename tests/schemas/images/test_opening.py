"""The picture of a file decides, whatever its metadata are; and the work on a file grows with its bytes at most."""

import contextlib
import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.photographs import encode, make_photo

from openwit.schemas.images import bmp, faults, gif, jpeg, opening, png
from openwit.schemas.images.exif import orientation_of
from openwit.schemas.images.faults import ImageFault, ImageFileError
from openwit.schemas.images.opening import open_image, upright_srgb

FORMATS: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: encode(make_photo(96, 64)),
    "progressive JPEG": lambda: encode(make_photo(96, 64), progressive=True),
    "grey JPEG": lambda: encode(make_photo(96, 64).convert("L")),
    "CMYK JPEG": lambda: encode(make_photo(96, 64).convert("CMYK")),
    "PNG": lambda: encode(make_photo(96, 64), "PNG"),
    "palette PNG": lambda: encode(make_photo(96, 64).quantize(16), "PNG", transparency=3),
    "PNG with alpha": lambda: encode(make_photo(96, 64).convert("LA"), "PNG"),
    "PNG of one bit": lambda: encode(make_photo(96, 64).convert("1"), "PNG"),
    "PNG of 16 bits": lambda: encode(Image.fromarray(np.arange(96 * 64, dtype=np.uint16).reshape(64, 96)), "PNG"),
    "APNG": lambda: encode(make_photo(96, 64), "PNG", save_all=True, append_images=[make_photo(96, 64, 1)]),
    "GIF": lambda: encode(make_photo(96, 64), "GIF"),
    "animated GIF": lambda: encode(make_photo(96, 64), "GIF", save_all=True, append_images=[make_photo(96, 64, 1)]),
    "WebP": lambda: encode(make_photo(96, 64), "WEBP"),
    "lossless WebP": lambda: encode(make_photo(96, 64).convert("RGBA"), "WEBP", lossless=True),
    "animated WebP": lambda: encode(make_photo(96, 64), "WEBP", save_all=True, append_images=[make_photo(96, 64, 1)]),
    "TIFF": lambda: encode(make_photo(96, 64), "TIFF"),
    "TIFF of LZW": lambda: encode(make_photo(96, 64), "TIFF", compression="tiff_lzw"),
    "big TIFF": lambda: encode(make_photo(96, 64), "TIFF", big_tiff=True),
    "BMP": lambda: encode(make_photo(96, 64), "BMP"),
    "AVIF": lambda: encode(make_photo(96, 64), "AVIF"),
}  # fmt: skip


def pixels(body: bytes) -> Image.Image:
    with open_image(body) as opened:
        return upright_srgb(opened)


def chunk(kind: bytes, data: bytes, *, damaged: bool = False) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ damaged)


def segment(marker: int, data: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data


def overlapping_exif(tags: int = 4000, size: int = 1 << 20) -> bytes:
    """A directory of which each entry claims the whole file."""
    entries = b"".join(struct.pack("<HHII", 0x9000 + n, 7, size, 8) for n in range(tags))
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, tags) + entries + bytes(4)


def exif_of(value: int, kind: int = 3) -> bytes:
    return b"Exif\0\0II*\0" + struct.pack("<IHHHIII", 8, 1, 0x0112, kind, 1, value, 0)


ICC = b"ICC_PROFILE\0\1\1"
JPEG_FAULTS: dict[str, bytes] = {
    "EXIF of noise": segment(0xE1, b"Exif\0\0" + bytes(range(250)) * 20),
    "EXIF cut short": segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff"),
    "EXIF of overlapping values": segment(0xE1, overlapping_exif(4000)),
    "EXIF in many parts": segment(0xE1, b"Exif\0\0" + bytes(65_000)) * 40,
    "orientation 0": segment(0xE1, exif_of(0)),
    "orientation 9": segment(0xE1, exif_of(9)),
    "orientation as a fraction": segment(0xE1, exif_of(6, 5)),
    "profile of noise": segment(0xE2, ICC + bytes(range(250)) * 9),
    "profile of zeros": segment(0xE2, ICC + bytes(3000)),
    "profile with a missing part": segment(0xE2, b"ICC_PROFILE\0\2\3" + bytes(300)),
    "profile of 12 MB": b"".join(segment(0xE2, ICC[:12] + bytes((n, 189)) + bytes(65_000)) for n in range(1, 190)),
    "XMP of 6 MB": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"<x/>" * 16_000) * 100,
    "JFIF cut short": segment(0xE0, b"JFIF"),
    "JFIF of density 0": segment(0xE0, b"JFIF\0\1\1\1\0\0\0\0\0\0"),
    "Adobe cut short": segment(0xEE, b"Adobe"),
    "Photoshop of noise": segment(0xED, b"Photoshop 3.0\0" + b"8BIM\4\x0f\xff\xff" * 500),
    "MPF that lies": segment(0xE2, b"MPF\0II*\0\x08\0\0\0\xff\xff" + bytes(99)),
    "segments of unknown kinds": b"".join(segment(0xF0 + n, b"abc") for n in range(14)) + segment(0x05, b"x"),
    "empty segments": b"\xff\xef\0\2" * 5000,
    "a segment of length 0": b"\xff\xeb\0\0",
    "fill bytes": b"\xff" * 100_000,
    "restarts": b"\xff\xd3" * 99,
    "comments": segment(0xFE, b"a") * 900,
}  # fmt: skip
PNG_FAULTS: dict[str, bytes] = {
    "wrong sum of a text": chunk(b"tEXt", b"a\0b", damaged=True),
    "wrong sum of a profile": chunk(b"iCCP", b"p\0\0" + zlib.compress(b"x"), damaged=True),
    "profile of noise": chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(range(250)))),
    "profile that is not compressed": chunk(b"iCCP", b"p\0\0abcdef"),
    "profile of unknown compression": chunk(b"iCCP", b"p\0\7abcdef"),
    "profile without a name": chunk(b"iCCP", b"x" * 200),
    "profile of 50 MB": chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(50 << 20))),
    "text of 8 MB": chunk(b"tEXt", b"a\0" + bytes(8 << 20)),
    "text of 50 MB, compressed": chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50 << 20))),
    "international text, cut": chunk(b"iTXt", b"a\0\1\0"),
    "gamma without a value": chunk(b"gAMA", b""),
    "colours of 3 bytes": chunk(b"cHRM", b"abc"),
    "density of 1 byte": chunk(b"pHYs", b"a"),
    "animation of nothing": chunk(b"acTL", b"") + chunk(b"fcTL", b"abc"),
    "EXIF of overlapping values": chunk(b"eXIf", overlapping_exif(4000)[6:]),
    "EXIF of noise": chunk(b"eXIf", b"II*\0\xff\xff\xff\xff"),
    "a chunk without a name": struct.pack(">I", 4) + b"\0\1\2\3abcdefgh",
    "a text longer than the file": struct.pack(">I", 0x7FFFFFFF) + b"tEXt" + b"abc",
    "private chunks": chunk(b"prVt", b"x" * 99) * 500,
    "wrong sum of a palette that is not needed": b"",
}  # fmt: skip
GIF_FAULTS: dict[str, bytes] = {
    "comments of 1 MB": b"!\xfe" + (b"\xff" + bytes(255)) * 4000 + b"\0",
    "many comments": b"!\xfe\1a\0" * 9000,
    "zeros": bytes(1 << 20),
    "noise": bytes(set(range(256)) - set(b"!,;")) * 99,
    "an extension of no known kind": b"!\x77\3abc\0",
    "a profile of noise": b"!\xff\x0bICCRGBG1012\xff" + bytes(255) + b"\0",
    "loops": b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0" * 500,
    "a control of no length": b"!\xf9\0",
}
WEBP_FAULTS: dict[str, bytes] = {
    "unknown chunks": b"abcd\0\0\0\0" * 5000,
    "EXIF of noise": b"EXIF" + struct.pack("<I", 8) + b"II*\0\xff\xff\xff\xff",
    "EXIF of overlapping values": b"EXIF" + struct.pack("<I", len(overlapping_exif())) + overlapping_exif(),
    "XMP of 5 MB": b"XMP " + struct.pack("<I", 5 << 20) + bytes(5 << 20),
    "a profile of noise": b"ICCP" + struct.pack("<I", 250) + bytes(range(250)),
}
CASES = [
    *((name, fault) for name in ("JPEG", "progressive JPEG", "grey JPEG", "CMYK JPEG") for fault in JPEG_FAULTS),
    *((name, fault) for name in FORMATS if "PNG" in name for fault in PNG_FAULTS),
    *((name, fault) for name in ("GIF", "animated GIF") for fault in GIF_FAULTS),
    *((name, fault) for name in ("WebP", "lossless WebP", "animated WebP") for fault in WEBP_FAULTS),
    *((name, "an end that is no part of it") for name in FORMATS),
]


def with_fault(name: str, body: bytes, fault: str) -> bytes:
    if fault == "an end that is no part of it":
        return body + b"PK\3\4 and what else was appended " * 500
    if "JPEG" in name:
        return body[:2] + JPEG_FAULTS[fault] + body[2:]
    if "PNG" in name:
        return body[:33] + PNG_FAULTS[fault] + body[33:]
    if "GIF" in name:
        at = 13 + (3 << (body[10] & 7) + 1 if body[10] & 0x80 else 0)
        return body[:at] + GIF_FAULTS[fault] + body[at:]
    changed = (
        body[12:30] + WEBP_FAULTS[fault] + body[30:] if body[12:16] == b"VP8X" else body[12:] + WEBP_FAULTS[fault]
    )
    return b"RIFF" + struct.pack("<I", len(changed) + 4) + b"WEBP" + changed


@pytest.mark.parametrize(("name", "fault"), CASES, ids=lambda value: str(value).replace(" ", "_"))
def test_metadata_never_decide_over_pixels(name: str, fault: str) -> None:
    body = FORMATS[name]()
    clean, damaged = pixels(body), pixels(with_fault(name, body, fault))
    assert damaged.mode == "RGB"
    assert np.array_equal(np.asarray(damaged), np.asarray(clean))


@pytest.mark.parametrize("name", FORMATS)
def test_the_picture_is_pillows(name: str) -> None:
    """What is taken out has no part in the picture."""
    body = FORMATS[name]()
    theirs: Any = Image.open(io.BytesIO(body))
    with open_image(body) as opened:
        assert opened.image.size == theirs.size == (96, 64)
        assert opened.image.convert("RGBA").tobytes() == theirs.convert("RGBA").tobytes()


@pytest.mark.parametrize(("name", "lost"), [("JPEG", 2), ("JPEG", 1), ("progressive JPEG", 2), ("grey JPEG", 2)])
def test_only_the_end_marker_is_missing(name: str, lost: int) -> None:
    body = FORMATS[name]()
    assert pixels(body[:-lost]) == pixels(body)


@pytest.mark.parametrize(("name", "lost"), [("PNG", 12), ("PNG", 16), ("PNG", 20), ("palette PNG", 14), ("GIF", 1)])
def test_only_what_follows_the_pixels_is_missing(name: str, lost: int) -> None:
    body = FORMATS[name]()
    assert pixels(body[:-lost]) == pixels(body)


@pytest.mark.parametrize(
    "name", ["JPEG", "progressive JPEG", "grey JPEG", "PNG", "GIF", "WebP", "TIFF", "BMP", "AVIF"]
)
@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_a_missing_part_of_the_picture_is_an_error(name: str, share: float) -> None:
    body = FORMATS[name]()
    kept = max(int(len(body) * share), len(body) - 900) if name == "TIFF" else int(len(body) * share)
    with pytest.raises((ImageFileError, OSError, ValueError)):
        pixels(body[:kept])


@pytest.mark.parametrize("nibbles", [False, True])
def test_run_length_coded_bmp(nibbles: bool) -> None:
    """Runs, single values, a jump and line ends, as the format defines them."""
    palette = b"".join(bytes((n * 16, 255 - n * 16, n * 7, 0)) for n in range(16))
    one, two = (b"\x11", b"\x22") if nibbles else (b"\1", b"\2")
    literal = b"\0\4" + (b"\x34\x56" if nibbles else b"\3\4\5\6")
    rows = b"\x28" + one + b"\0\0" + b"\x04" + two + literal + b"\0\2\2\1" + b"\x03" + one + b"\0\1"
    head = struct.pack("<IiiHHIIiiII", 40, 40, 34, 1, 4 if nibbles else 8, 2 if nibbles else 1, len(rows), 0, 0, 16, 0)
    body = b"BM" + struct.pack("<IHHI", 54 + 64 + len(rows), 0, 0, 54 + 64) + head + palette + rows
    seen = np.asarray(pixels(body))[::-1]
    colours = [(palette[4 * n + 2], palette[4 * n + 1], palette[4 * n]) for n in range(16)]
    assert (seen[0] == colours[1]).all()
    assert [tuple(map(int, value)) for value in seen[1, :9]] == [
        *[colours[2]] * 4, *(colours[n] for n in (3, 4, 5, 6)), colours[0]
    ]  # fmt: skip
    assert (seen[2, 10:13] == colours[1]).all()
    assert (seen[2, :10] == colours[0]).all()


# Work. A file that counts its reads would be read in C here; so the steps in Python are bounded by budgets.


N = 1 << 20
HOSTILE: dict[str, tuple[str, bytes]] = {
    "empty segments": ("JPEG", b"\xff\xef\0\2" * (N // 4)),
    "comments": ("JPEG", b"\xff\xfe\0\3a" * (N // 5)),
    "stuffed bytes": ("JPEG", b"\xff\0" * (N // 2)),
    "tables": ("JPEG", (b"\xff\xdb\0\x43\3" + b"\1" * 64) * 1500),
    "texts": ("PNG", chunk(b"tEXt", b"a\0b") * 120_000),
    "empty data": ("PNG", chunk(b"IDAT", b"") * 120_000),
    "comments of one byte": ("GIF", b"!\xfe" + b"\1a" * (N // 2) + b"\0"),
    "chunks": ("animated WebP", b"abcd\0\0\0\0" * (N // 8)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_too_many_parts_are_a_reason(name: str) -> None:
    form, parts = HOSTILE[name]
    body = FORMATS[form]()
    at = {"JPEG": 2, "PNG": 33, "GIF": 13 + (3 << (body[10] & 7) + 1), "animated WebP": 30}[form]
    with pytest.raises(ImageFileError) as caught, open_image(body[:at] + parts + body[at:]):
        pass
    assert caught.value.fault is ImageFault.TOO_MANY_PARTS


class Counted(bytes):
    """Bytes that count how many of them are looked at, one by one or in slices."""

    looked: int = 0

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        Counted.looked += 1 if isinstance(key, int) else len(found)
        return found


@pytest.mark.parametrize(
    ("walk", "name", "unit"),
    [
        (jpeg.jpeg_picture, "JPEG", b"\xff\xef\0\2"),
        (jpeg.jpeg_picture, "JPEG", b"\xff" * 4),
        (jpeg.jpeg_picture, "JPEG", segment(0xE1, b"Exif\0\0abcd")),
        (png.png_picture, "PNG", chunk(b"prVt", b"abc")),
        (png.png_picture, "PNG", chunk(b"IDAT", b"")),
        (gif.gif_picture, "GIF", b"!\xfe\4abcd\0"),
        (gif.gif_picture, "GIF", b"\0" * 8),
    ],
)
def test_work_grows_with_the_bytes(walk: Any, name: str, unit: bytes) -> None:
    body = FORMATS[name]()
    at = {"JPEG": 2, "PNG": 33, "GIF": 13 + (3 << (body[10] & 7) + 1)}[name]
    looked = []
    for times in (1000, 2000, 4000):
        Counted.looked = 0
        walk(Counted(body[:at] + unit * times + body[at:]))
        looked.append(Counted.looked)
    assert looked[2] - looked[1] <= 2 * (looked[1] - looked[0]) + 1000


def test_many_frames_and_entries_leave_no_trace() -> None:
    body = FORMATS["TIFF"]()
    directory = struct.unpack_from("<I", body, 4)[0]
    count = struct.unpack_from("<H", body, directory)[0]
    entries = body[directory + 2 : directory + 2 + 12 * count]
    more = b"".join(struct.pack("<HHII", 40_000 + n, 7, len(body), 0) for n in range(20_000))
    padded = body + bytes(len(body) % 2)
    hostile = padded + struct.pack("<H", count + 20_000) + entries + more + struct.pack("<I", len(padded))
    hostile = hostile[:4] + struct.pack("<I", len(padded)) + hostile[8:]
    with open_image(hostile) as opened:
        assert len(opened.image.tag_v2) < 20  # type: ignore[attr-defined]
        assert upright_srgb(opened) == pixels(body)


def test_scans_are_limited_by_the_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    body = FORMATS["progressive JPEG"]()
    at = body.rindex(b"\xff\xda")
    many = body[:-2] + body[at:-2] * 60 + b"\xff\xd9"
    assert pixels(many).size == (96, 64)
    monkeypatch.setattr(opening, "_SCANNED_PIXELS", 96 * 64 * 20)
    with pytest.raises(ImageFileError, match="more than 20"):
        pixels(many)


def test_scans_are_counted_only_where_decoders_read_several(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[bytes] = []
    monkeypatch.setattr(opening, "has_many_scans", lambda body, limit: counted.append(body))  # noqa: ARG005
    sequential = encode(make_photo(96, 64), "JPEG")
    with open_image(sequential):
        assert not counted
    at = sequential.index(b"\xff\xda")
    frame = sequential.index(b"\xff\xc0")
    hostile = [
        encode(make_photo(96, 64), "JPEG", progressive=True),
        # One component a scan, as in files of several scans, and a second frame.
        sequential[: at + 4] + b"\1" + sequential[at + 5 :],
        sequential[:at] + sequential[frame : frame + 19] + sequential[at:],
    ]
    for number, body in enumerate(hostile, 1):
        assert not jpeg.jpeg_picture(body).one_scan
        with contextlib.suppress(ImageFileError), open_image(body):
            pass
        assert len(counted) <= number
    assert counted[0] == hostile[0]


def test_run_length_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    head = struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 8, 1, 6, 0, 0, 16, 0)
    body = b"BM" + struct.pack("<IHHI", 90, 0, 0, 54 + 64) + head + bytes(64) + b"\1\1" * 50
    with pytest.raises(ImageFileError) as caught:
        pixels(body)
    assert caught.value.fault is ImageFault.TOO_MANY_PIXELS
    monkeypatch.setattr(bmp, "_MAX_RUNS", 10)
    small = body[:18] + struct.pack("<ii", 90, 90) + body[26:]
    with pytest.raises(ImageFileError) as caught:
        pixels(small)
    assert caught.value.fault is ImageFault.TOO_MANY_PARTS


def test_tables_of_avif_are_limited() -> None:
    body = FORMATS["AVIF"]()
    at = body.index(b"iinf") - 4
    size = struct.unpack_from(">I", body, at)[0]
    item = struct.pack(">I4sBBBBHH4s", 21, b"infe", 2, 0, 0, 0, 9, 0, b"hvc1") + b"\0"
    meta = body.index(b"meta") - 4
    changed = bytearray(body[: at + size] + item * 20_000 + body[at + size :])
    for where in (at, meta):
        struct.pack_into(">I", changed, where, struct.unpack_from(">I", changed, where)[0] + 21 * 20_000)
    with pytest.raises(ImageFileError) as caught:
        pixels(bytes(changed))
    assert caught.value.fault is ImageFault.TOO_MANY_PARTS


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value", range(10))
def test_orientation(order: str, value: int) -> None:
    start = b"II*\0" if order == "<" else b"MM\0*"
    exif = start + struct.pack(order + "IHHHIHHI", 8, 1, 0x0112, 3, 1, value, 0, 0)
    expected = value if 1 <= value <= 8 else 1
    assert orientation_of(exif) == orientation_of(b"Exif\0\0" + exif) == expected
    assert all(orientation_of(exif[:n]) in (1, expected) for n in range(len(exif)))


@given(st.binary(max_size=120))
def test_any_exif_has_an_orientation(data: bytes) -> None:
    assert 1 <= orientation_of(b"II*\0" + data) <= 8


STARTS = [
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"II*\0",
    b"II+\0",
    b"BM",
    b"RIFF\0\0\0\0WEBP",
    b"\0\0\0\x18ftypavif",
]


@given(st.binary(max_size=300), st.sampled_from(STARTS))
def test_any_bytes_end_in_one_error(noise: bytes, start: bytes) -> None:
    for body in (start + noise, start + bytes(30) + noise):
        with pytest.raises(ImageFileError), open_image(body) as opened:
            opening.load_image(opened.image)


def test_other_formats_are_taken_only_if_asked_for() -> None:
    body = encode(make_photo(40, 30), "PPM")
    with pytest.raises(ImageFileError, match="starts with"), open_image(body):
        pass
    with open_image(body, other_formats=opening.OTHER_FORMATS) as opened:
        assert upright_srgb(opened).tobytes() == make_photo(40, 30).tobytes()
    with pytest.raises(ImageFileError), open_image(encode(make_photo(), "TGA"), other_formats=opening.OTHER_FORMATS):
        pass


def test_budgets_leave_room_for_real_files() -> None:
    assert faults.MAX_PARTS * 65_533 > 100 << 20
