"""Transform images to tensors: where to crop, and one decode-and-resize for all crops.

A crop is a box in the source image; `Image.resize` with a box then gives the pixels that resizing the whole image
and cropping would give, without computing the rest. So one function serves training and evaluation.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openwit.schemas.common.errors import DataError
from openwit.schemas.images.colour import resamplable, to_srgb
from openwit.schemas.images.opening import OTHER_FORMATS, is_shown_as_stored, load_image, open_image, upright_srgb
from openwit.training.config.images import OPENAI_IMAGES, OPENAI_MEAN, OPENAI_STD, Channels, ImageSpec, Interpolation
from openwit.training.data.decoded_images import DecodedImages
from openwit.training.data.resample import resample_square

if TYPE_CHECKING:
    import torch

MEAN, STD = OPENAI_MEAN, OPENAI_STD
FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}

_RESIZED_CROP_ATTEMPTS = 10
_LEAST_REDUCTION = 2
"""By which a JPEG's decoder reduces, or by 4 or 8."""


@dataclass(frozen=True)
class Box:
    """A rectangle of the source image, in pixels of the source; edges may fall between pixels."""

    left: float
    top: float
    width: float
    height: float


Crop = Callable[[int, int, random.Random], Box]
"""(source width, source height, generator) -> box."""
Finish = Callable[[NDArray[np.uint8], random.Random], NDArray[np.uint8]]
"""(square of (size, size, 3) bytes, generator) -> square: what comes after the crop, such as jitter of colours."""


def whole_image(width: int, height: int, _rng: random.Random) -> Box:
    """Crop nothing."""
    return Box(0, 0, width, height)


@dataclass(frozen=True)
class SquareCrop:
    """Resize the short side to `size` (bicubic), then crop a square: random (paper section 2.3) or central.

    The central crop is openai/CLIP's preprocessing, with its rounding.
    """

    size: int
    central: bool

    def __call__(self, width: int, height: int, rng: random.Random) -> Box:
        """Return the square, as a box of the source."""
        short = min(width, height)
        new_width = max(self.size, int(self.size * width / short))
        new_height = max(self.size, int(self.size * height / short))
        if self.central:
            x = round((new_width - self.size) / 2)
            y = round((new_height - self.size) / 2)
        else:
            x = _below(rng, new_width - self.size + 1)
            y = _below(rng, new_height - self.size + 1)
        scale_x, scale_y = width / new_width, height / new_height
        return Box(x * scale_x, y * scale_y, self.size * scale_x, self.size * scale_y)


@dataclass(frozen=True)
class ResizedCrop:
    """Crop a random share of the area at a random aspect ratio (Szegedy et al., arXiv 1409.4842), as open_clip does.

    Falls back to the largest central box of an allowed ratio if ten draws do not fit.
    """

    scale: tuple[float, float]
    ratio: tuple[float, float]

    def __call__(self, width: int, height: int, rng: random.Random) -> Box:
        """Return the drawn box."""
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(_RESIZED_CROP_ATTEMPTS):
            area = width * height * _between(rng, *self.scale)
            ratio = math.exp(_between(rng, low, high))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                return Box(_below(rng, width - w + 1), _below(rng, height - h + 1), w, h)
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
        return Box((width - w) // 2, (height - h) // 2, w, h)


@dataclass(frozen=True)
class ImageTransform:
    """Transforms an encoded image to a square of bytes.

    Args:
        size: side of the output, pixels.
        crop: which part of the source.
        flip: mirror with probability one half.
        fast: let the JPEG decoder reduce by 2, 4 or 8 as long as the crop keeps at least `size` pixels per side, and
            resample with integers (`openwit.training.data.resample`) instead of Pillow.
        interpolation: filter; any but the bicubic one is Pillow's.
        pad: keep the ratio of the box, with black around it, instead of stretching it to a square.
        finish: is applied to the square.
        kept: memory for decoded images; the result is the same with and without it.
    """

    size: int
    crop: Crop
    flip: bool = False
    fast: bool = True
    interpolation: Interpolation = "bicubic"
    pad: bool = False
    finish: Finish | None = None
    kept: DecodedImages | None = None

    def __call__(self, encoded: bytes, rng: random.Random) -> NDArray[np.uint8]:
        """Return RGB bytes of shape (size, size, 3).

        Raises:
            OSError, ValueError, SyntaxError, Image.DecompressionBombError: it is not a readable image.
        """
        planes = np.empty((3, self.size, self.size), np.uint8)
        self.into(planes, encoded, rng)
        return planes.transpose(1, 2, 0)

    def into(self, planes: NDArray[np.uint8], encoded: bytes, rng: random.Random) -> None:
        """Write the same into the batch: (3, size, size), red, green and blue.

        Raises:
            OSError, ValueError, SyntaxError, Image.DecompressionBombError: it is not a readable image.
        """
        kept = None if self.kept is None else self.kept.get(encoded)
        box = None if kept is None else self.crop(*kept.size, rng)
        if kept is not None and box is not None and self._reduction(box) < _LEAST_REDUCTION:
            self._fill(planes, kept, kept.size, box, rng)
            return
        with open_image(encoded, other_formats=OTHER_FORMATS) as opened:
            image = opened.image if is_shown_as_stored(opened) else upright_srgb(opened)
            size = image.size
            box = self.crop(*size, rng) if box is None else box
            rgb = self._decoded(image, box)
            if self.kept is not None and rgb.size == size:
                self.kept.put(encoded, rgb)
            self._fill(planes, rgb, size, box, rng)

    def apply(self, planes: NDArray[np.uint8], image: Image.Image, rng: random.Random) -> None:
        """Write the transformed version of an opened image, of any mode, to (3, size, size); on white.

        Raises:
            OSError, ValueError, SyntaxError, Image.DecompressionBombError: it cannot be decoded.
        """
        size = image.size
        box = self.crop(*size, rng)
        self._fill(planes, self._decoded(image, box), size, box, rng)

    def _reduction(self, box: Box) -> float:
        """Return by how much a JPEG's decoder may reduce the image."""
        return min(box.width, box.height) / self.size if self.fast else 1.0

    def _decoded(self, image: Image.Image, box: Box) -> Image.Image:
        """Return the image in RGB, reduced by the decoder as far as the box allows."""
        width, height = image.size
        reduction = self._reduction(box)
        if reduction >= _LEAST_REDUCTION:
            image.draft("RGB", (max(1, int(width / reduction)), max(1, int(height / reduction))))
        load_image(image)
        return to_srgb(resamplable(image), None)

    def _fill(
        self, planes: NDArray[np.uint8], rgb: Image.Image, size: tuple[int, int], box: Box, rng: random.Random
    ) -> None:
        """Write the box of an image, given in pixels of the `size` that it has undecoded."""
        flip = self.flip and rng.random() < 0.5
        self._resize(planes, rgb, _edges(box, *size, rgb), flip, self._inner(box))
        if self.finish is not None:
            planes[:] = self.finish(np.ascontiguousarray(planes.transpose(1, 2, 0)), rng).transpose(2, 0, 1)

    def _inner(self, box: Box) -> tuple[int, int]:
        """Return width and height that the box takes of the square."""
        if not self.pad:
            return self.size, self.size
        scale = self.size / max(box.width, box.height)
        return max(1, round(box.width * scale)), max(1, round(box.height * scale))

    def _resize(
        self,
        planes: NDArray[np.uint8],
        rgb: Image.Image,
        edges: tuple[float, float, float, float],
        flip: bool,
        inner: tuple[int, int],
    ) -> None:
        fills = inner == (self.size, self.size)
        is_fast = self.fast and fills and self.interpolation == "bicubic"
        if is_fast and resample_square(rgb, edges, flip, planes):
            return
        square = rgb.resize(inner, FILTERS[self.interpolation], box=edges)
        if not fills:
            around = Image.new("RGB", (self.size, self.size))
            around.paste(square, ((self.size - inner[0]) // 2, (self.size - inner[1]) // 2))
            square = around
        if flip:
            square = square.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        planes[:] = np.asarray(square).transpose(2, 0, 1)


def _edges(box: Box, width: int, height: int, decoded: Image.Image) -> tuple[float, float, float, float]:
    """Return a box of a width x height image as left, top, right, bottom of its decoded, possibly reduced, version."""
    scale_x, scale_y = decoded.width / width, decoded.height / height
    # min(): rounding may put an edge slightly outside the image, which Pillow rejects.
    return (
        box.left * scale_x,
        box.top * scale_y,
        min(decoded.width, (box.left + box.width) * scale_x),
        min(decoded.height, (box.top + box.height) * scale_y),
    )


def evaluation_transform(size: int, *, fast: bool, images: ImageSpec = OPENAI_IMAGES) -> ImageTransform:
    """Return the deterministic transform of evaluations: by default the short side resized, and the central square."""
    return fitted_transform(size, SquareCrop(size, central=True), images, fast=fast)


def fitted_transform(
    size: int,
    crop: Crop,
    images: ImageSpec,
    *,
    flip: bool = False,
    fast: bool,
    finish: Finish | None = None,
    kept: DecodedImages | None = None,
) -> ImageTransform:
    """Return a transform with a model's filter and fit; where no side is cut, a square crop is the whole image."""
    if images.resize != "shortest" and isinstance(crop, SquareCrop):
        crop = whole_image
    pad = images.resize == "longest" and crop is whole_image
    return ImageTransform(size, crop, flip, fast, images.interpolation, pad, finish, kept)


@dataclass(frozen=True)
class Preprocess:
    """One image as a model takes it: by default short side resized (bicubic), central square, OpenAI's statistics.

    Picklable, so that it can be the `transform` of a dataset in a torch DataLoader with workers.

    Args:
        size: side of the output, pixels.
        images: statistics, filter and fit.
    """

    size: int
    images: ImageSpec = OPENAI_IMAGES

    def __call__(self, image: "Image.Image | bytes | NDArray[np.uint8]") -> "torch.Tensor":
        """Return (3, size, size) float32 of a PIL image, an encoded image, or uint8 pixels (H, W, 3).

        Raises:
            DataError: it is not a readable image.
        """
        import torch

        transform = evaluation_transform(self.size, fast=False, images=self.images)
        planes = np.empty((3, self.size, self.size), np.uint8)
        try:
            if isinstance(image, bytes):
                transform.into(planes, image, random.Random(0))
            else:
                opened = Image.fromarray(image) if isinstance(image, np.ndarray) else image
                transform.apply(planes, opened, random.Random(0))
        except (OSError, ValueError, TypeError, SyntaxError, Image.DecompressionBombError) as error:
            raise DataError(f"not a readable image: {error}") from error
        return normalise(torch.from_numpy(planes.transpose(1, 2, 0))[None], images=self.images)[0]


def normalise(
    pixels: "torch.Tensor", out: "torch.Tensor | None" = None, *, images: ImageSpec = OPENAI_IMAGES
) -> "torch.Tensor":
    """Convert uint8 (B, H, W, 3) to float32 (B, 3, H, W), each channel shifted and scaled.

    Args:
        pixels: on any device.
        out: memory for the result, float32 and contiguous, used on a CPU if given: newly allocated memory costs more
            there than the arithmetic (0.36 against 0.06 ms per image of 224 pixels).
        images: has mean and standard deviation.
    """
    import torch  # takes seconds, and the processes of the loader do not need it

    planes = pixels.permute(0, 3, 1, 2)
    mean, std = _statistics(pixels.device, images.mean, images.std)
    if pixels.device.type != "cpu":
        return ((planes.float() - mean) / std).contiguous()
    result = torch.empty(planes.shape) if out is None else out
    # Image by image, so that each pass works in the cache.
    for target, source in zip(result, planes, strict=True):
        target.copy_(source).sub_(mean).div_(std)
    return result


@cache
def _statistics(device: "torch.device", mean_of: Channels, std_of: Channels) -> "tuple[torch.Tensor, torch.Tensor]":
    import torch

    # Once per device: a copy to a GPU waits for it. Not inference tensors, as training may be the next caller.
    with torch.inference_mode(False):
        mean, std = (torch.tensor(values, device=device)[:, None, None] * 255 for values in (mean_of, std_of))
    return mean, std


def _below(rng: random.Random, bound: int) -> int:
    # Only random() is guaranteed to give the same numbers in all Python versions; randrange is not.
    return min(bound - 1, int(rng.random() * bound))


def _between(rng: random.Random, low: float, high: float) -> float:
    return low + (high - low) * rng.random()
