"""EXIF data as texts: what exifread finds, and what is no EXIF data."""

import importlib.util
import io
import json
import random

import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational
from support.photographs import encode, make_photo

from openwit.pipeline.images.exif import check_exif, exif_json
from openwit.pipeline.images.process import ProcessedImage, process_image
from openwit.pipeline.images.settings import ImageSettings
from openwit.pipeline.stages.fetch import Fetch
from openwit.pipeline.stages.fetch.settings import FetchSettings
from openwit.schemas.common.errors import RecipeError

INSTALLED = importlib.util.find_spec("exifread") is not None
NEEDED = pytest.mark.skipif(not INSTALLED, reason="exifread is not installed")
PHOTO = make_photo(60, 50)


def tagged() -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Kite & Co \ud83e".encode("utf-8", "replace").decode(), 6
    exif.get_ifd(0x8769)[0x829D] = IFDRational(14, 5)
    exif.get_ifd(0x8825)[1] = "N"
    return exif


@pytest.mark.skipif(INSTALLED, reason="exifread is installed")
def test_without_it_the_user_is_told_before_anything_runs() -> None:
    for check in (check_exif, lambda: Fetch().check(FetchSettings(image=ImageSettings(exif=True)))):
        with pytest.raises(RecipeError, match="fetch.image.exif needs the package exifread: pip install 'openwit"):
            check()


@NEEDED
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_tags_are_those_of_exifread(form: str) -> None:
    import exifread

    body = encode(PHOTO, form, exif=tagged())
    text = exif_json(body)
    theirs = exifread.process_file(io.BytesIO(body), details=False)
    assert json.loads(text or "{}") == {name: str(value).strip() for name, value in theirs.items()}
    if form in ("JPEG", "WEBP"):
        found = json.loads(text or "")
        assert (found["EXIF FNumber"], found["Image Orientation"]) == ("14/5", "Rotated 90 CW")
    for settings in (ImageSettings(exif=True), ImageSettings(exif=True, keep_bytes=True)):
        image = process_image(body, settings)
        assert isinstance(image, ProcessedImage)
        assert image.exif == text
    plain = process_image(body, ImageSettings())
    assert isinstance(plain, ProcessedImage)
    assert plain.exif is None


@NEEDED
def test_damaged_data_are_no_data_and_end_in_time() -> None:
    body = bytearray(encode(PHOTO, exif=tagged()))
    end = body.index(b"\xff\xdb")
    hostile = bytearray(b"II*\0\x08\0\0\0\xff\xff" + b"\x0f\x01\x03\0\xe7\x03\0\0\x08\0\0\0" * 65_535)
    assert exif_json(bytes(hostile)) is None  # 65 million values, of which few are read
    for seed in range(40):
        rng, changed = random.Random(seed), bytearray(body)
        for _ in range(rng.randint(1, 12)):
            changed[rng.randrange(2, end)] = rng.randrange(256)
        found = exif_json(bytes(changed))
        assert found is None or isinstance(json.loads(found), dict)
    assert exif_json(encode(PHOTO)) is None
    assert exif_json(encode(PHOTO, "GIF")) is None
    assert exif_json(b"") is None
