"""What goes to the shard: formats, filters, bytes as served, and blurred boxes."""

import hashlib
import io
import itertools

import numpy as np
import pytest
from PIL import Image
from support.photographs import encode, make_photo

from openwit.pipeline.images.encode import TooLongError, encoded
from openwit.pipeline.images.process import ImageDrop, ProcessedImage, process_image
from openwit.pipeline.images.resize import thumbnail
from openwit.pipeline.images.settings import ImageFormat, ImageSettings, Interpolation, ResizeMode
from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.settings import parse_settings
from openwit.schemas.images.sniff import ENDINGS, sniff_format

PHOTO = make_photo(120, 90)
FRAMES = [make_photo(120, 90, seed=n) for n in range(3)]
TURNED = Image.Exif()
TURNED[0x0112] = 6
BODIES = {
    "photo": encode(PHOTO, quality=90),
    "small": encode(make_photo(40, 34), quality=90),
    "turned": encode(PHOTO, exif=TURNED.tobytes()),
    "cmyk": encode(PHOTO.convert("CMYK")),
    "grey 16": encode(Image.fromarray(np.linspace(0, 65535, 9000).astype(np.uint16).reshape(90, 100)), "PNG"),
    "alpha": encode(Image.merge("RGBA", [*PHOTO.split(), Image.linear_gradient("L").resize(PHOTO.size)]), "PNG"),
    "palette": encode(PHOTO.quantize(16), "PNG"),
    "webp": encode(PHOTO, "WEBP"),
    "gif": encode(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]),
    "moving webp": encode(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:]),
    "bmp": encode(PHOTO, "BMP"),
    "tiff": encode(PHOTO, "TIFF"),
}
BROKEN = {name: BODIES[name][: len(BODIES[name]) // 2] for name in ("photo", "alpha", "webp", "tiff")}


def kept(body: bytes, **settings: object) -> ProcessedImage:
    result = process_image(body, ImageSettings.model_validate({"size": 48, **settings}))
    assert isinstance(result, ProcessedImage), result
    return result


@pytest.mark.parametrize("name", BODIES)
def test_every_file_in_every_format_and_mode(name: str) -> None:
    body = BODIES[name]
    turns = itertools.cycle([*ImageFormat][1:])
    for mode in ResizeMode:
        plain = kept(body, mode=mode)
        shown = Image.open(io.BytesIO(plain.data))
        for form in {ImageFormat.JPG, next(turns)} if mode is ResizeMode.BORDER else {next(turns)}:
            image = kept(body, mode=mode, format=form)
            again = Image.open(io.BytesIO(image.data))
            assert (ENDINGS[str(again.format)], again.mode) == (image.format, "RGB") == (form, "RGB")
            assert again.size == (image.width, image.height) == shown.size
            assert not getattr(again, "is_animated", False)
            assert not again.getexif()
            # What is stored does not change what dedup and filters see.
            assert (image.pixels_hash, image.phash, image.sha256) == (plain.pixels_hash, plain.phash, plain.sha256)
            assert image == kept(body, mode=mode, format=form)
            assert np.abs(np.asarray(again, int) - np.asarray(shown, int)).mean() < 6
        held = kept(body, mode=mode, keep_bytes=True)
        assert held.data is body
        assert held.format == ENDINGS[str(sniff_format(body))]
        assert (held.width, held.height) == (held.original_width, held.original_height)
        assert (held.pixels_hash, held.phash, held.reencoded) == (plain.pixels_hash, plain.phash, False)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_dropped_whatever_is_stored(name: str) -> None:
    reasons = {
        str(result.reason)
        for form, keep in itertools.product(ImageFormat, (False, True))
        if isinstance(
            result := process_image(
                BROKEN[name], ImageSettings(format=form) if not keep else ImageSettings(keep_bytes=True)
            ),
            ImageDrop,
        )
    }
    assert reasons <= {"truncated", "decode_error"}
    assert reasons


def test_png_is_the_picture_itself_and_compression_changes_only_its_size() -> None:
    body = encode(PHOTO, "PNG")
    fast, slow = (kept(body, format="png", mode="no", png_compression=level) for level in (0, 9))
    assert len(slow.data) < len(fast.data)
    for image in (fast, slow):
        assert Image.open(io.BytesIO(image.data)).tobytes() == PHOTO.tobytes()
    assert len(kept(body, format="webp", quality=20).data) < len(kept(body, format="webp", quality=95).data)


def test_a_webp_that_needs_no_change_keeps_its_picture() -> None:
    body = encode(PHOTO, "WEBP", exif=Image.Exif().tobytes(), quality=70)
    image = kept(body, format="webp", mode="no")
    assert not image.reencoded
    assert Image.open(io.BytesIO(image.data)).tobytes() == Image.open(io.BytesIO(body)).convert("RGB").tobytes()
    assert b"EXIF" not in image.data
    for name in ("moving webp", "alpha"):
        assert kept(BODIES[name], format="webp", mode="no").reencoded


def test_a_side_that_a_format_does_not_have_is_a_reason() -> None:
    body = encode(Image.new("RGB", (16_400, 40)), "PNG")
    result = process_image(body, ImageSettings(mode=ResizeMode.NO, format=ImageFormat.WEBP, max_aspect_ratio=1000))
    assert isinstance(result, ImageDrop)
    assert (result.reason, result.detail) == (
        "too_many_pixels",
        "PNG: 16400 x 40, of at most 16383 in a webp file",
    )
    with pytest.raises(TooLongError):
        encoded(Image.new("RGB", (65_501, 1)), ImageSettings())


def test_filters_make_pictures_smaller_and_larger_each_in_its_way() -> None:
    body = encode(PHOTO, "PNG")
    found = {}
    for chosen in Interpolation:
        down = kept(body, downscale=chosen)
        up = kept(body, upscale=chosen, size=200, only_if_bigger=False)
        found[chosen] = (down.pixels_hash, up.pixels_hash)
        assert (down.height, up.height) == (48, 200)
    assert found.pop(Interpolation.AUTO) == found[Interpolation.BICUBIC]
    assert len({down for down, _ in found.values()}) == len({up for _, up in found.values()}) == 5
    assert kept(body, upscale="nearest").pixels_hash == kept(body).pixels_hash
    shrunk = PHOTO.resize((64, 48), Image.Resampling.BOX)
    assert Image.open(io.BytesIO(kept(body, downscale="area", format="png").data)).tobytes() == shrunk.tobytes()


def test_bytes_as_served_have_no_other_format() -> None:
    with pytest.raises(RecipeError, match="keep_bytes leaves images in the format in which they are served"):
        parse_settings({"keep_bytes": True, "format": "png"}, ImageSettings, "image")


# Boxes


def reference(pixels: np.ndarray, boxes: list[list[float]]) -> np.ndarray:
    """ImageNet's face obfuscation, as img2dataset's blurrer has it: exact Gaussians on floats."""
    height, width = pixels.shape[:2]
    mask, longest = np.zeros((height, width)), 0
    for left, top, right, bottom in boxes:
        x1, y1, x2, y2 = int(left * width), int(top * height), int(right * width), int(bottom * height)
        longer = max(x2 - x1, y2 - y1)
        longest = max(longest, longer)
        grown = [int(x1 - 0.1 * longer), int(y1 - 0.1 * longer), int(x2 + 0.1 * longer), int(y2 + 0.1 * longer)]
        x1, x2 = (min(max(part, 0), width - 1) for part in (grown[0], grown[2]))
        y1, y2 = (min(max(part, 0), height - 1) for part in (grown[1], grown[3]))
        mask[y1:y2, x1:x2] = 1
    sigma = 0.1 * longest
    reach = int(4 * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()

    def blur(plane: np.ndarray) -> np.ndarray:
        for axis in (0, 1):
            pad = [(reach, reach) if n == axis else (0, 0) for n in (0, 1)]
            plane = np.apply_along_axis(np.convolve, axis, np.pad(plane, pad, mode="edge"), kernel, "valid")
        return plane

    soft = blur(mask)[..., None]
    blurred = np.stack([blur(pixels[..., n].astype(float)) for n in range(3)], axis=-1)
    return pixels * (1 - soft) + blurred * soft


def test_boxes_are_blurred_as_imagenets_faces_are() -> None:
    boxes = [[0.05, 0.1, 0.35, 0.3], [0.5, 0.5, 0.9, 1.02]]
    body = encode(PHOTO, "PNG")
    image = process_image(body, ImageSettings(size=64, format=ImageFormat.PNG), boxes=boxes)
    plain = process_image(body, ImageSettings(size=64, format=ImageFormat.PNG))
    assert isinstance(image, ProcessedImage)
    assert isinstance(plain, ProcessedImage)
    before, after = (np.asarray(Image.open(io.BytesIO(each.data))) for each in (plain, image))
    expected = reference(before, boxes)
    assert np.abs(after - expected).mean() < 0.5
    assert np.abs(before - expected).mean() > 3
    assert image.pixels_hash != plain.pixels_hash


@pytest.mark.parametrize("mode", ResizeMode)
@pytest.mark.parametrize("turned", [1, 3, 6, 8])
def test_a_box_is_where_it_is_in_the_file_whatever_becomes_of_it(mode: ResizeMode, turned: int) -> None:
    """A picture of one colour outside of the box stays so, and the noise in the box is gone."""
    rng = np.random.default_rng(0)
    pixels = np.full((120, 200, 3), 90, np.uint8)
    pixels[20:70, 60:120] = rng.integers(0, 256, (50, 60, 3))
    exif = Image.Exif()
    exif[0x0112] = turned
    body = encode(Image.fromarray(pixels), "PNG", exif=exif)
    box = [60 / 200, 20 / 120, 120 / 200, 70 / 120]
    options = {"size": 60, "mode": mode, "format": ImageFormat.PNG}
    plain, image = (process_image(body, ImageSettings(**options), boxes=each) for each in ((), [box]))
    assert isinstance(plain, ProcessedImage)
    assert isinstance(image, ProcessedImage)
    before, after = (np.asarray(Image.open(io.BytesIO(each.data)), int) for each in (plain, image))
    rough = np.abs(np.diff(before, axis=0)).sum(), np.abs(np.diff(after, axis=0)).sum()
    white = np.abs(np.diff((before == 255).all(-1).astype(int) * 165, axis=0)).sum() * 3
    assert rough[1] - white < 0.35 * (rough[0] - white)


def test_bytes_as_served_with_boxes_are_encoded_in_their_own_size() -> None:
    box = [[0.1, 0.1, 0.5, 0.5]]
    for name in ("photo", "turned", "gif", "alpha"):
        settings = ImageSettings(size=48, keep_bytes=True)
        image = process_image(BODIES[name], settings, boxes=box)
        small = process_image(BODIES[name], ImageSettings(size=48), boxes=box)
        assert isinstance(image, ProcessedImage)
        assert isinstance(small, ProcessedImage)
        shown = Image.open(io.BytesIO(image.data))
        assert (image.format, image.reencoded) == ("jpg", True)
        assert shown.size == (image.width, image.height) == (image.original_width, image.original_height)
        assert (image.phash ^ small.phash).bit_count() <= 6
        assert image.sha256 == hashlib.sha256(BODIES[name]).hexdigest()


def test_thumbnails_are_upright_whatever_the_file_is() -> None:
    for name, body in BODIES.items():
        small = Image.open(io.BytesIO(thumbnail(body, 60)))
        assert small.format == "JPEG"
        assert (small.width < small.height) == (name == "turned"), name
        assert max(small.size) <= 60
