"""Make samples to arrays: a text drawn and tokenised, an image cropped into memory that is given. Needs no torch."""

import random
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openwit.schemas.common.errors import OpenWITError
from openwit.training.config import DataSettings
from openwit.training.config.data import CaptionWeights
from openwit.training.config.images import OPENAI_IMAGES, ImageSpec
from openwit.training.config.zoo import InputSpec
from openwit.training.data.augment import finish_of
from openwit.training.data.decoded_images import DecodedImages
from openwit.training.data.sample_texts import CorruptSampleError
from openwit.training.data.sampling import pick_by_source, pick_text, sample_rng
from openwit.training.data.sharded import Sample
from openwit.training.data.transforms import Crop, ImageTransform, ResizedCrop, SquareCrop, fitted_transform
from openwit.training.tokenizer.bpe import Tokenizer

# Exceptions of Pillow for bytes that are not a complete image.
IMAGE_ERRORS = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


def training_transform(settings: DataSettings, size: int, images: ImageSpec = OPENAI_IMAGES) -> ImageTransform:
    """Return the augmentation that the settings specify, with a model's filter and fit."""
    crop: Crop
    match settings.crop:
        case "random_crop":
            crop = SquareCrop(size, central=False)
        case "center_crop":
            crop = SquareCrop(size, central=True)
        case "random_resized_crop":
            crop = ResizedCrop(settings.crop_scale, settings.crop_ratio)
    flip, fast = settings.horizontal_flip, settings.decode == "fast"
    kept = DecodedImages(settings.decoded_bytes) if settings.decoded_bytes else None
    return fitted_transform(size, crop, images, flip=flip, fast=fast, finish=finish_of(settings), kept=kept)


class Prepared(NamedTuple):
    """What was made of samples; the images are in the memory that was given.

    Attributes:
        keys: of the samples that could be read.
        tokens: int64 (B, L), trimmed to the longest text.
        corrupt: reasons by key.
        repaired: samples whose JSON member was repaired or passed over.
        rows: places of the samples among those asked for, if some are missing.
    """

    keys: list[str]
    tokens: NDArray[np.int64]
    corrupt: dict[str, str]
    repaired: int
    rows: list[int] | None


@dataclass(frozen=True)
class SampleMaker:
    """Makes arrays of samples.

    Args:
        settings: captions and augmentation.
        inputs: image size and context length.
        tokenizer: texts to ids.
        seed: of captions and crops.
    """

    settings: DataSettings
    _: KW_ONLY
    inputs: InputSpec
    tokenizer: Tokenizer
    seed: int

    @cached_property
    def transform(self) -> ImageTransform:
        """Transform of the images."""
        return training_transform(self.settings, self.inputs.image_size, self.inputs.images)

    def shape(self, samples: int) -> tuple[int, int, int, int]:
        """Return the shape of the memory for the images of a number of samples."""
        return samples, 3, self.inputs.image_size, self.inputs.image_size

    def make(
        self,
        samples: Sequence[Callable[[], tuple[int, Sample]]],
        images: NDArray[np.uint8],
        corrupt: dict[str, str],
    ) -> Prepared:
        """Make arrays of the samples that can be read.

        Args:
            samples: each returns (epoch, sample), or raises CorruptSampleError.
            images: memory of `shape`, written to.
            corrupt: samples already known to be unreadable.
        """
        transform = self.transform
        keys: list[str] = []
        texts: list[str] = []
        rows: list[int] = []
        corrupt = dict(corrupt)
        repaired = 0
        for row, read in enumerate(samples):
            try:
                epoch, sample = read()
                rng = sample_rng(self.seed, epoch, sample.key)
                text = _text(self.settings.captions, sample, rng)
                _decode(transform, images[len(keys)], sample, rng)
            except CorruptSampleError as error:
                corrupt[error.key] = str(error)
                continue
            keys.append(sample.key)
            texts.append(text)
            rows.append(row)
            repaired += sample.repaired
        tokens = self.tokenizer(texts, self.inputs.context_length)
        return Prepared(keys, tokens, corrupt, repaired, rows if len(rows) < len(samples) else None)


def _text(captions: Literal["random", "first"] | CaptionWeights, sample: Sample, rng: random.Random) -> str:
    if isinstance(captions, CaptionWeights):
        return pick_by_source(sample.texts, sample.sources, captions.weights, captions.others, rng)
    return pick_text(sample.texts, captions, rng)


def _decode(transform: ImageTransform, planes: NDArray[np.uint8], sample: Sample, rng: random.Random) -> None:
    try:
        transform.into(planes, sample.image, rng)
    except OpenWITError:
        raise  # not the image's fault
    except IMAGE_ERRORS as error:
        raise CorruptSampleError(sample.key, f"image: {error}") from error
