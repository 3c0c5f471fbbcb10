"""Turn the bytes that a server sent into the JPEG of a shard, or into a drop reason.

Hostile input is the normal case: it results in an `ImageDrop`, and memory is limited by `max_pixels`, which is
checked against the header before anything is decoded.
"""

import hashlib
import io
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray
from PIL import Image

from openwit.pipeline.common.reasons import ReasonEnum
from openwit.pipeline.images.descriptor import phash_and_descriptor
from openwit.pipeline.images.resample import resample
from openwit.pipeline.images.resize import Plan, pad, plan_resize
from openwit.pipeline.images.settings import ImageSettings, ResizeMode
from openwit.pipeline.images.thumbnails import thumbnails
from openwit.schemas.common.errors import PluginError
from openwit.schemas.images.colour import UnsupportedModeError, needs_conversion, resamplable, to_srgb
from openwit.schemas.images.faults import ImageFault, ImageFileError
from openwit.schemas.images.jpeg import scan_jpeg
from openwit.schemas.images.opening import TRANSPOSITIONS, OpenedImage, load_image, open_image
from openwit.schemas.images.sniff import sniff_format

__all__ = ["ImageDrop", "ImageReason", "ImageSettings", "ProcessedImage", "ResizeMode", "pixels_hash", "process_image"]

_DRAFT_FACTOR = 1.3


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
        jpeg: as written to the shard: RGB, upright, without metadata.
        width: pixels of `jpeg`.
        height: pixels of `jpeg`.
        original_width: pixels as served, after EXIF orientation.
        original_height: pixels as served, after EXIF orientation.
        original_format: by magic bytes: JPEG, PNG, …
        sha256: hex digest of the body as served.
        pixels_hash: hex digest of the resized picture before encoding (see the function).
        phash: 64-bit perceptual hash of the result (see `phash`).
        descriptor: 44 bytes that separate near duplicates from hash collisions (see `phash_and_descriptor`).
        reencoded: False if the picture data is bit-identical to that of the body.
    """

    jpeg: bytes
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
    body: bytes, settings: ImageSettings, *, check: ImageCheck | None = None
) -> ProcessedImage | ImageDrop:
    """Check, decode, resize and encode one image. Pure: the same body and settings give the same bytes.

    A JPEG that is RGB, upright, sRGB and within size keeps its picture data, and all its bytes if they hold nothing
    but the picture.

    Args:
        body: the file as served.
        settings: what to accept and how to resize; `filters` is ignored, pass `check` instead.
        check: a further decision on the decoded image.

    Raises:
        PluginError: `check` raises it.
    """
    name = sniff_format(body) or ""
    try:
        with open_image(body, max_pixels=settings.max_pixels) as opened:
            return _process(body, opened, settings, check)
    except PluginError:
        raise
    except _DropError as error:
        return error.drop
    except ImageFileError as error:
        return ImageDrop(_REASONS[error.fault], f"{name}: {error}" if name else str(error))
    except UnsupportedModeError as error:
        return ImageDrop(ImageReason.UNSUPPORTED_MODE, f"{name}: {error}")
    except Exception as error:  # a decoder's
        return ImageDrop(ImageReason.DECODE_ERROR, f"{name}: {type(error).__name__}: {error}"[:200])


def _process(
    body: bytes, opened: OpenedImage, settings: ImageSettings, check: ImageCheck | None
) -> ProcessedImage | ImageDrop:
    image, name, orientation = opened.image, opened.format, opened.orientation
    sideways = orientation >= 5
    width, height = image.size[::-1] if sideways else image.size
    _check_shape(width, height, settings)
    plan = plan_resize(width, height, settings)
    jpeg: bytes | None = None
    picture: Image.Image = image
    if orientation == 1 and name == "JPEG" and not plan.changes(width, height):
        jpeg = _untouched(body, opened)
    reencoded = jpeg is None
    if reencoded:
        picture = pad(_rendered(opened, plan.transposed() if sideways else plan), plan.canvas)
    drop = check(picture.copy(), ServedImage(width, height, name)) if check is not None else None
    if drop is not None:
        return drop
    if jpeg is None:
        jpeg = _encoded(picture, settings.quality)
    digest = hashlib.sha256(body).hexdigest()
    small = thumbnails(picture)
    pixels = pixels_hash(picture, small.packed)
    phash, descriptor = phash_and_descriptor(picture, small)
    return ProcessedImage(jpeg, *picture.size, width, height, name, digest, pixels, phash, descriptor, reencoded)


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


def _untouched(body: bytes, opened: OpenedImage) -> bytes | None:
    """Return the body without metadata if it needs no other change. It is decoded nevertheless, to find damage."""
    if opened.image.mode != "RGB" or needs_conversion(opened.icc_profile, "RGB"):
        return None
    scan = scan_jpeg(body)
    if scan is None or not scan.plain:
        return None
    load_image(opened.image)
    return scan.clean


def _rendered(opened: OpenedImage, plan: Plan) -> Image.Image:
    """Decode and resample as stored, then convert colours and apply the orientation on the small image."""
    image, box = opened.image, plan.box
    if opened.format == "JPEG":
        # libjpeg decodes at 1/2, 1/4 or 1/8 for a fraction of the cost. As long as the resampling filter still gets
        # 1.3 times the target, the result is closer to Lanczos than an area average of the full decode.
        full, wanted = image.size, _full_size(plan, image.size)
        image.draft(None, (math.ceil(_DRAFT_FACTOR * wanted[0]), math.ceil(_DRAFT_FACTOR * wanted[1])))
        # The last row and column may cover fewer pixels than the others, so the scale cannot be computed from sizes.
        shrunk = next(k for k in (1, 2, 4, 8) if (-(-full[0] // k), -(-full[1] // k)) == image.size)
        box = (box[0] / shrunk, box[1] / shrunk, box[2] / shrunk, box[3] / shrunk)
    load_image(image)
    picture = to_srgb(resample(resamplable(image), box, plan.resized), opened.icc_profile)
    transposition = TRANSPOSITIONS.get(opened.orientation)
    return picture if transposition is None else picture.transpose(transposition)


def _full_size(plan: Plan, full: tuple[int, int]) -> tuple[int, int]:
    """Return the size of the whole image at the plan's scale, cropped parts included."""
    left, top, right, bottom = plan.box
    return (
        max(1, round(full[0] * plan.resized[0] / (right - left))),
        max(1, round(full[1] * plan.resized[1] / (bottom - top))),
    )


def _encoded(image: Image.Image, quality: int) -> bytes:
    image.info.clear()  # Pillow would write the source's comment into the output
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def _check_shape(width: int, height: int, settings: ImageSettings) -> None:
    short, long = sorted((width, height))
    if short < settings.min_size:
        raise _DropError(ImageReason.TOO_SMALL, f"{width} x {height}")
    if long > settings.max_aspect_ratio * short:
        raise _DropError(ImageReason.BAD_ASPECT_RATIO, f"{width} x {height}")
