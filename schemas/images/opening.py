"""Open images that strangers made: the one place of both wings at which Pillow sees their bytes.

Pillow is given a file of the same picture without metadata, so that damaged, huge or hostile metadata neither cost a
picture nor time; what they say about the picture (orientation, colour profile) is read here. Work is bounded by the
pixels and bytes of the file, or the file is refused by an `ImageFileError` that says why.
"""

import io
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import Image

from openwit.schemas.common.errors import one_line
from openwit.schemas.images.avif import avif_picture
from openwit.schemas.images.bmp import bmp_picture
from openwit.schemas.images.colour import needs_conversion, resamplable, to_srgb
from openwit.schemas.images.exif import ORIENTATION
from openwit.schemas.images.faults import ImageFault, ImageFileError
from openwit.schemas.images.gif import gif_picture
from openwit.schemas.images.jpeg import has_many_scans, jpeg_picture
from openwit.schemas.images.picture import Picture
from openwit.schemas.images.png import png_picture
from openwit.schemas.images.sniff import describe, sniff_format, webp_size
from openwit.schemas.images.tiff import tiff_picture
from openwit.schemas.images.webp import webp_picture

MAX_PIXELS = 178_956_970
"""Pixels from which on Pillow refuses to open an image."""
OTHER_FORMATS = ("PPM", "JPEG2000")
"""Pillow's names of formats of sets that others made, besides those that the dataset builder reads."""

_PICTURES: dict[str, Callable[[bytes], Picture]] = {
    "JPEG": jpeg_picture,
    "PNG": png_picture,
    "GIF": gif_picture,
    "WEBP": webp_picture,
    "TIFF": tiff_picture,
    "BMP": bmp_picture,
    "AVIF": avif_picture,
}
# Encoders write about ten scans; each is a pass over all pixels, however few bytes it has.
_MAX_SCANS, _FEWEST_SCANS, _SCANNED_PIXELS = 100, 16, 1_000_000_000
_MOST_CHARACTERS = 200  # of a message
_TILE_WIDTH, _TILE_LENGTH = 0x0142, 0x0143
# Bytes that decode to something else than the zeros that a decoder supposes behind the end.
_JUNK = bytes(1 + (167 * n * n + 89 * n) % 254 for n in range(4096))
# EXIF orientations 2 to 8 as Pillow's transpositions; 5 to 8 swap the axes.
TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow warns of large images; they are checked here, and a crawl has millions of them.
warnings.filterwarnings("ignore", module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(frozen=True, slots=True)
class OpenedImage:
    """An image that is opened, not yet decoded, and what its metadata say about how it looks.

    Attributes:
        image: Pillow's, of the size and mode as stored.
        format: by magic bytes: JPEG, PNG, …
        orientation: of EXIF, 1 to 8; 1 where the decoder turns the picture itself.
        icc_profile: the colour profile; None if there is none or it cannot be read.
    """

    image: Image.Image
    format: str
    orientation: int
    icc_profile: bytes | None


@contextmanager
def open_image(
    body: bytes, *, max_pixels: int = MAX_PIXELS, other_formats: Collection[str] = ()
) -> Iterator[OpenedImage]:
    """Open a JPEG, PNG, GIF, WebP, BMP, TIFF or AVIF file, without decoding it yet; see `load_image`.

    Args:
        body: the file.
        max_pixels: by the header.
        other_formats: Pillow's names of further formats to accept, of files that nobody made to hurt.

    Raises:
        ImageFileError: it is none of these, its picture is damaged, or it has more pixels or parts than allowed.
    """
    name = sniff_format(body)
    if name is None and not other_formats:
        raise ImageFileError(ImageFault.NOT_AN_IMAGE, describe(body))
    if name == "WEBP":
        _check_pixels(webp_size(body), max_pixels)
    picture = Picture(body) if name is None else _PICTURES[name](body)
    with _opened(picture.body, other_formats if name is None else (name,)) as image:
        name = str(image.format)
        _check_pixels(image.size, max_pixels)
        _check_tiles(image, max_pixels)
        orientation, icc_profile = picture.orientation, picture.icc_profile
        if name == "JPEG":
            if not picture.one_scan:
                _check_scans(picture.body, image.size)
            if not picture.complete:
                _check_end(picture.body)
            # In several blocks, fill bytes that cross their borders would be read again and again.
            image.decodermaxblock = len(picture.body)  # type: ignore[attr-defined]
        elif name == "AVIF":
            orientation, icc_profile = _exif_orientation(image), image.info.get("icc_profile")
        for known in ("icc_profile", "exif", "comment", "xmp"):
            image.info.pop(known, None)
        yield OpenedImage(image, name, orientation, icc_profile)


def load_image(image: Image.Image) -> None:
    """Decode an opened image.

    Raises:
        ImageFileError: it is damaged.
    """
    try:
        image.load()
    except Exception as error:
        raise _file_error(error) from error


def upright_srgb(opened: OpenedImage) -> Image.Image:
    """Decode an image as a browser shows it on a white page: RGB, upright, in sRGB.

    Raises:
        ImageFileError: it is damaged.
        UnsupportedModeError: its colours are not understood.
    """
    load_image(opened.image)
    picture = to_srgb(resamplable(opened.image), opened.icc_profile)
    transposition = TRANSPOSITIONS.get(opened.orientation)
    return picture if transposition is None else picture.transpose(transposition)


def is_shown_as_stored(opened: OpenedImage) -> bool:
    """Return whether an image is upright, opaque, and RGB in sRGB, or grey: `upright_srgb` only decodes it."""
    if opened.orientation != 1 or opened.image.mode not in ("RGB", "L") or "transparency" in opened.image.info:
        return False
    return opened.icc_profile is None or not needs_conversion(opened.icc_profile, opened.image.mode)


def _opened(body: bytes, formats: Collection[str]) -> Image.Image:
    try:
        return Image.open(io.BytesIO(body), formats=list(formats))
    except Exception as error:
        raise _file_error(error) from error


def _file_error(error: Exception) -> ImageFileError:
    """Return what Pillow says about a file as one kind of error: its decoders raise anything on hostile bytes."""
    if isinstance(error, ImageFileError):
        return error
    text = str(error).lower()
    fault = ImageFault.BROKEN
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        fault = ImageFault.TOO_MANY_PIXELS
    elif isinstance(error, EOFError) or any(word in text for word in ("truncated", "unexpected end", "not enough")):
        fault = ImageFault.TRUNCATED
    message = one_line(error, _MOST_CHARACTERS)
    return ImageFileError(fault, message if message == type(error).__name__ else f"{type(error).__name__}: {message}")


def _exif_orientation(image: Image.Image) -> int:
    value = image.getexif().get(ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _check_pixels(size: tuple[int, int] | None, max_pixels: int) -> None:
    if size is None:
        raise ImageFileError(ImageFault.TRUNCATED, "no size in the header")
    if size[0] * size[1] > max_pixels:
        raise ImageFileError(ImageFault.TOO_MANY_PIXELS, f"{size[0]} x {size[1]}")


def _check_tiles(image: Image.Image, max_pixels: int) -> None:
    """Check a TIFF's tiles, which are separate buffers and may be larger than the image."""
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        return
    width, length = tags.get(_TILE_WIDTH, 0), tags.get(_TILE_LENGTH, 0)
    if isinstance(width, int) and isinstance(length, int) and width * length > max_pixels:
        raise ImageFileError(ImageFault.TOO_MANY_PIXELS, f"a tile of {width} x {length}")


def _check_scans(body: bytes, size: tuple[int, int]) -> None:
    limit = max(_FEWEST_SCANS, min(_MAX_SCANS, _SCANNED_PIXELS // max(1, size[0] * size[1])))
    if has_many_scans(body, limit):
        raise ImageFileError(ImageFault.TOO_MANY_SCANS, f"more than {limit}")


def _check_end(body: bytes) -> None:
    """Check that only the end marker was missing, not a part of the picture.

    A decoder that meets the end too early supposes zeros, without an error. So the picture is decoded twice, with
    different bytes behind its last ones: if nothing was missing, they change nothing.
    """
    if _decoded(body) != _decoded(body[:-2] + _JUNK + body[-2:]):
        raise ImageFileError(ImageFault.TRUNCATED, "a part of the picture is missing")


def _decoded(body: bytes) -> bytes:
    with _opened(body, ("JPEG",)) as image:
        load_image(image)
        return image.tobytes()
