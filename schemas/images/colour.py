"""Convert any mode that Pillow decodes to into 8-bit sRGB on white."""

import io
import itertools
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageCms

# A profile is tried on this many greys; white must come out at least so bright, black at most half as bright.
_GREYS, _DARKEST_WHITE, _UNEVEN = 9, 160, 8


class UnsupportedModeError(ValueError):
    """The pixels have no defined appearance; the message names the mode."""


def resamplable(image: Image.Image) -> Image.Image:
    """Return the image in a mode that can be resampled: L, RGB, RGBA or CMYK (or LAB).

    Palettes are looked up, 1 and 16 bits become 8, transparency becomes an alpha channel.

    Raises:
        UnsupportedModeError: the mode is floating point.
    """
    mode = image.mode
    transparent = "transparency" in image.info
    if mode in ("L", "RGB") and not transparent:
        return image
    if mode in ("RGBA", "CMYK", "LAB"):
        return image
    if mode.startswith("I"):
        return _from_integers(image)
    if mode in ("P", "L", "RGB", "1", "LA", "PA", "La", "RGBa"):
        # Pillow cannot convert La to RGBA in one step.
        image = image.convert("LA") if mode == "La" else image
        alpha = transparent or mode in ("LA", "PA", "La", "RGBa")
        return image.convert("RGBA" if alpha else "L" if mode == "1" else "RGB")
    if mode in ("YCbCr", "HSV", "RGBX"):
        return image.convert("RGB")
    raise UnsupportedModeError(f"mode {mode}")


def to_srgb(image: Image.Image, icc_profile: bytes | None) -> Image.Image:
    """Return an RGB image on white, converted to sRGB if a profile declares other colours.

    A profile that cannot be read, or that does not fit the mode, is ignored, as browsers do.
    """
    if image.mode == "RGBA":
        white = Image.new("RGB", image.size, (255, 255, 255))
        alpha = image.getchannel("A")
        white.paste(_converted(image.convert("RGB"), icc_profile), mask=alpha)
        return white
    return _converted(image, icc_profile)


def needs_conversion(icc_profile: bytes | None, mode: str) -> bool:
    """Return whether this profile, on an image of this mode, changes colours."""
    return bool(icc_profile) and _transform(icc_profile or b"", mode) is not None


def _converted(image: Image.Image, icc_profile: bytes | None) -> Image.Image:
    transform = _transform(icc_profile, image.mode) if icc_profile else None
    if transform is not None:
        try:
            return ImageCms.applyTransform(image, transform) or image.convert("RGB")
        except (ImageCms.PyCMSError, ValueError):
            return image.convert("RGB")
    if image.mode == "LAB":
        return ImageCms.applyTransform(image, _lab_transform()) or image
    return image if image.mode == "RGB" else image.convert("RGB")


@lru_cache(maxsize=32)
def _transform(icc_profile: bytes, mode: str) -> Any:
    """Return the transform from a profile to sRGB, or None if the profile is sRGB or unusable.

    The cache holds the few profiles that are common on the web; building a transform takes longer than applying it.
    """
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
        if "srgb" in ImageCms.getProfileDescription(profile).lower():
            return None
        transform = ImageCms.buildTransform(profile, _srgb(), mode, "RGB")
        return transform if _keeps_greys(transform, mode) else None
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, MemoryError):
        return None


def _keeps_greys(transform: Any, mode: str) -> bool:
    """Return whether a transform leaves white bright, black dark and greys in order.

    A damaged profile may still be read: a table of zeros makes all pictures black.
    """
    probe = Image.frombytes("L", (_GREYS, 1), bytes(255 * n // (_GREYS - 1) for n in range(_GREYS)))
    inked = mode == "CMYK"
    bands = [Image.new("L", probe.size)] * 3 + [ImageChops.invert(probe)] if inked else [probe] * len(mode)
    probe = probe if mode == "L" else Image.merge(mode, bands)
    brightness = (ImageCms.applyTransform(probe, transform) or probe).convert("L").tobytes()
    rising = all(b >= a - _UNEVEN for a, b in itertools.pairwise(brightness))
    return rising and brightness[0] <= _DARKEST_WHITE / 2 and brightness[-1] >= _DARKEST_WHITE


@lru_cache(maxsize=1)
def _lab_transform() -> Any:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), _srgb(), "LAB", "RGB")


@lru_cache(maxsize=1)
def _srgb() -> Any:
    return ImageCms.createProfile("sRGB")


def _from_integers(image: Image.Image) -> Image.Image:
    """Convert 16-bit (and wider) grey to 8-bit grey: clip to 16 bits, take the high byte."""
    values = np.asarray(image)
    if values.dtype.kind not in "iu":
        raise UnsupportedModeError(f"mode {image.mode}")
    wide = np.clip(values.astype(np.int64), 0, 0xFFFF)
    return Image.fromarray((wide >> 8).astype(np.uint8))
