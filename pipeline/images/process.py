"""Turn the bytes that a server sent into the image of a shard, or into a drop reason.

Hostile input is the normal case: it results in an `ImageDrop`, and memory is limited by `max_pixels`, which is
checked against the header before anything is decoded.
"""

import hashlib
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray
from PIL import Image

from openwit.pipeline.common.reasons import ReasonEnum
from openwit.pipeline.images.blur import Boxes, blurred
from openwit.pipeline.images.descriptor import phash_and_descriptor
from openwit.pipeline.images.encode import TooLongError, encoded
from openwit.pipeline.images.exif import exif_json
from openwit.pipeline.images.resample import resample
from openwit.pipeline.images.resize import Plan, pad, plan_resize
from openwit.pipeline.images.settings import ImageFormat, ImageSettings, Interpolation, ResizeMode
from openwit.pipeline.images.thumbnails import thumbnails
from openwit.schemas.common.errors import PluginError
from openwit.schemas.images.colour import UnsupportedModeError, needs_conversion, resamplable, to_srgb
from openwit.schemas.images.faults import ImageFault, ImageFileError
from openwit.schemas.images.jpeg import scan_jpeg
from openwit.schemas.images.opening import TRANSPOSITIONS, OpenedImage, load_image, open_image
from openwit.schemas.images.sniff import ENDINGS, sniff_format
from openwit.schemas.images.webp import webp_picture

__all__ = ["ImageDrop", "ImageReason", "ImageSettings", "ProcessedImage", "ResizeMode", "pixels_hash", "process_image"]

_DRAFT_FACTOR = 1.3
_SOURCES = {ImageFormat.JPG: "JPEG", ImageFormat.WEBP: "WEBP"}
"""Formats whose files may go to the shard as they are. A PNG loses nothing when it is encoded again."""
_ANIMATED = 0x02  # flag of a WebP file
_AS_IT_IS = ImageSettings(mode=ResizeMode.NO)


class ImageReason(ReasonEnum):
    """Drop reasons of images."""

    NOT_AN_IMAGE = "not_an_image", "something else than an image, by its first bytes"
    TRUNCATED = "truncated", "an image of which a part is missing"
    DECODE_ERROR = "decode_error", "an image that could not be decoded"
    UNSUPPORTED_MODE = "unsupported_mode", "an image whose colours are not understood"
    TOO_MANY_PIXELS = "too_many_pixels", "more pixels than allowed"
    TOO_MANY_SCANS = "too_many_scans", "a JPEG made to keep a decoder busy"
    TOO_MANY_PARTS = "too_many_parts", "more segments, chunks or tables than any program writes"
    TOO_SMALL = "too_small", "smaller than asked for"
    BAD_ASPECT_RATIO = "bad_aspect_ratio", "longer or wider than asked for"


_REASONS = {
    ImageFault.NOT_AN_IMAGE: ImageReason.NOT_AN_IMAGE,
    ImageFault.TRUNCATED: ImageReason.TRUNCATED,
    ImageFault.BROKEN: ImageReason.DECODE_ERROR,
    ImageFault.TOO_MANY_PIXELS: ImageReason.TOO_MANY_PIXELS,
    ImageFault.TOO_MANY_SCANS: ImageReason.TOO_MANY_SCANS,
    ImageFault.TOO_MANY_PARTS: ImageReason.TOO_MANY_PARTS,
}


@dataclass(frozen=True, slots=True)
class ImageDrop:
    """An image that is dropped: an `ImageReason`, or the reason of a filter of the user's."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ProcessedImage:
    """An image that is kept.

    Attributes:
        data: as written to the shard: RGB, upright, without metadata; or the body as served.
        format: of `data`: jpg, png, webp …
        width: pixels of `data`, after EXIF orientation.
        height: pixels of `data`, after EXIF orientation.
        original_width: pixels as served, after EXIF orientation.
        original_height: pixels as served, after EXIF orientation.
        original_format: by magic bytes: JPEG, PNG, …
        sha256: hex digest of the body as served.
        pixels_hash: hex digest of the resized picture before encoding (see the function).
        phash: 64-bit perceptual hash of the result (see `phash`).
        descriptor: 44 bytes that separate near duplicates from hash collisions (see `phash_and_descriptor`).
        reencoded: False if the picture data is bit-identical to that of the body.
        exif: EXIF data of the body as JSON, if asked for.
    """

    data: bytes
    format: str
    width: int
    height: int
    original_width: int
    original_height: int
    original_format: str
    sha256: str
    pixels_hash: str
    phash: int
    descriptor: bytes
    reencoded: bool
    exif: str | None = None


@dataclass(frozen=True, slots=True)
class ServedImage:
    """An image as it was served: pixels after EXIF orientation, and the format by its magic bytes (JPEG, PNG, …)."""

    width: int
    height: int
    format: str


ImageCheck = Callable[[Image.Image, ServedImage], ImageDrop | None]
"""Decide on a decoded image, upright RGB in its final size; None keeps it. Called with a copy, before encoding."""


class _DropError(Exception):
    def __init__(self, reason: ImageReason, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.drop = ImageDrop(reason, detail)


def process_image(
    body: bytes, settings: ImageSettings, *, check: ImageCheck | None = None, boxes: Boxes = ()
) -> ProcessedImage | ImageDrop:
    """Check, decode, resize and encode one image. Pure: the same body and settings give the same bytes.

    A JPEG (or WebP, where that is the format) that is RGB, upright, sRGB and within size keeps its picture data, and
    all its bytes if they hold nothing but the picture.

    Args:
        body: the file as served.
        settings: what to accept and how to resize; `filters` is ignored, pass `check` instead.
        check: a further decision on the decoded image.
        boxes: to blur.

    Raises:
        PluginError: `check` raises it.
    """
    name = sniff_format(body) or ""
    try:
        with open_image(body, max_pixels=settings.max_pixels) as opened:
            return _process(body, opened, settings, check, boxes)
    except PluginError:
        raise
    except _DropError as error:
        return error.drop
    except ImageFileError as error:
        return ImageDrop(_REASONS[error.fault], f"{name}: {error}" if name else str(error))
    except TooLongError as error:
        return ImageDrop(ImageReason.TOO_MANY_PIXELS, f"{name}: {error}")
    except UnsupportedModeError as error:
        return ImageDrop(ImageReason.UNSUPPORTED_MODE, f"{name}: {error}")
    except Exception as error:  # a decoder's
        return ImageDrop(ImageReason.DECODE_ERROR, f"{name}: {type(error).__name__}: {error}"[:200])


def _process(
    body: bytes, opened: OpenedImage, settings: ImageSettings, check: ImageCheck | None, boxes: Boxes
) -> ProcessedImage | ImageDrop:
    image, name, orientation = opened.image, opened.format, opened.orientation
    sideways = orientation >= 5
    width, height = image.size[::-1] if sideways else image.size
    _check_shape(width, height, settings)
    plan = plan_resize(width, height, settings)
    form, size, stored = settings.format.value, (width, height), None
    picture: Image.Image = image
    if orientation == 1 and not boxes and not plan.changes(width, height):
        stored = _untouched(body, opened, settings)
    untouched = stored is not None
    if not untouched and boxes and settings.keep_bytes:
        whole = _rendered(opened, plan_resize(*image.size, _AS_IT_IS), settings, boxes)
        stored = encoded(whole, settings)
        picture = pad(resample(whole, plan.box, plan.resized, _filter(plan, settings)), plan.canvas)
    elif not untouched:
        picture = pad(_rendered(opened, plan.transposed() if sideways else plan, settings, boxes), plan.canvas)
    drop = check(picture.copy(), ServedImage(width, height, name)) if check is not None else None
    if drop is not None:
        return drop
    if settings.keep_bytes and not boxes:
        stored, form, untouched = body, ENDINGS[name], True
    elif not settings.keep_bytes:
        size = picture.size
    if stored is None:
        stored = encoded(picture, settings)
    digest = hashlib.sha256(body).hexdigest()
    small = thumbnails(picture)
    pixels = pixels_hash(picture, small.packed)
    phash, descriptor = phash_and_descriptor(picture, small)
    exif = exif_json(body) if settings.exif else None
    return ProcessedImage(
        stored, form, *size, width, height, name, digest, pixels, phash, descriptor, not untouched, exif
    )


def pixels_hash(image: Image.Image, packed: NDArray[np.uint8] | None = None) -> str:
    """Hash the picture of an RGB image, whatever file it came in.

    Not sha256, which would take a tenth of the whole cost of a small image: whoever constructs two pictures with one
    hash only gets their own images treated as duplicates.

    Args:
        packed: its pixels, where they are known.

    Returns:
        hex xxh3-128 over width, height (32 bits each, little-endian) and the pixels, row by row.
    """
    digest = xxhash.xxh3_128(struct.pack("<II", *image.size))
    digest.update(image.tobytes() if packed is None else packed.data)
    return digest.hexdigest()


def _untouched(body: bytes, opened: OpenedImage, settings: ImageSettings) -> bytes | None:
    """Return the body without metadata if it needs no other change. It is decoded nevertheless, to find damage."""
    if opened.format != _SOURCES.get(settings.format) or opened.image.mode != "RGB":
        return None
    if needs_conversion(opened.icc_profile, "RGB"):
        return None
    if settings.format is ImageFormat.WEBP:
        clean = webp_picture(body).body
        if clean[12:16] == b"VP8X" and clean[20] & _ANIMATED:
            return None
    else:
        scan = scan_jpeg(body)
        if scan is None or not scan.plain:
            return None
        clean = scan.clean
    load_image(opened.image)
    return clean


def _rendered(opened: OpenedImage, plan: Plan, settings: ImageSettings, boxes: Boxes = ()) -> Image.Image:
    """Decode and resample as stored, then convert colours and apply the orientation on the small image."""
    image, box, full = opened.image, plan.box, opened.image.size
    chosen = _filter(plan, settings)
    if opened.format == "JPEG" and chosen is not Interpolation.NEAREST:
        # libjpeg decodes at 1/2, 1/4 or 1/8 for a fraction of the cost. As long as the resampling filter still gets
        # 1.3 times the target, the result is closer to Lanczos than an area average of the full decode.
        wanted = _full_size(plan, image.size)
        image.draft(None, (math.ceil(_DRAFT_FACTOR * wanted[0]), math.ceil(_DRAFT_FACTOR * wanted[1])))
        # The last row and column may cover fewer pixels than the others, so the scale cannot be computed from sizes.
        shrunk = next(k for k in (1, 2, 4, 8) if (-(-full[0] // k), -(-full[1] // k)) == image.size)
        box = (box[0] / shrunk, box[1] / shrunk, box[2] / shrunk, box[3] / shrunk)
    load_image(image)
    picture = to_srgb(resample(resamplable(image), box, plan.resized, chosen), opened.icc_profile)
    if boxes:
        picture = blurred(picture, boxes, full, plan.box)
    transposition = TRANSPOSITIONS.get(opened.orientation)
    return picture if transposition is None else picture.transpose(transposition)


def _filter(plan: Plan, settings: ImageSettings) -> Interpolation:
    """Return the filter for what a plan does: it makes a picture smaller, or larger."""
    left, _, right, _ = plan.box
    chosen = settings.downscale if right - left >= plan.resized[0] else settings.upscale
    return Interpolation.BICUBIC if chosen is Interpolation.AUTO else chosen


def _full_size(plan: Plan, full: tuple[int, int]) -> tuple[int, int]:
    """Return the size of the whole image at the plan's scale, cropped parts included."""
    left, top, right, bottom = plan.box
    return (
        max(1, round(full[0] * plan.resized[0] / (right - left))),
        max(1, round(full[1] * plan.resized[1] / (bottom - top))),
    )


def _check_shape(width: int, height: int, settings: ImageSettings) -> None:
    short, long = sorted((width, height))
    if short < settings.min_size:
        raise _DropError(ImageReason.TOO_SMALL, f"{width} x {height}")
    if long > settings.max_aspect_ratio * short:
        raise _DropError(ImageReason.BAD_ASPECT_RATIO, f"{width} x {height}")
