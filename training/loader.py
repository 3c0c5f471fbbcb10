"""Batches by number, prepared ahead by threads. Any step can be made at any time, so resuming is starting at one."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from PIL import Image

from schemas.errors import UserError
from training.config import DataSettings
from training.data import CorruptSampleError, ShardedDataset
from training.models.zoo import ClipSpec
from training.sampling import BatchPlan, pick_text, sample_rng
from training.tokenizer import Tokenizer
from training.transforms import Crop, ImageTransform, ResizedCrop, SquareCrop

# What Pillow raises on bytes that are no whole image.
IMAGE_ERRORS = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


@dataclass(frozen=True)
class Batch:
    """One step's input. `seen` counts unreadable samples too: it is what the stream moved on by."""

    images: torch.Tensor  # uint8 (B, H, W, 3)
    tokens: torch.Tensor  # int64 (B, L), trimmed to the longest text
    keys: list[str]
    seen: int
    corrupt: dict[str, str] = field(default_factory=dict)  # key: reason


def training_transform(settings: DataSettings, size: int) -> ImageTransform:
    """The augmentation the settings ask for."""
    crop: Crop
    match settings.crop:
        case "random_crop":
            crop = SquareCrop(size, central=False)
        case "center_crop":
            crop = SquareCrop(size, central=True)
        case "random_resized_crop":
            crop = ResizedCrop(settings.crop_scale, settings.crop_ratio)
    return ImageTransform(size, crop, settings.horizontal_flip, settings.decode == "fast")


class BatchMaker:
    """Makes the batch of any step.

    Args:
        dataset: the split.
        plan: which samples stand in which step.
        settings: captions and augmentation.
        spec: image size and context length.
        tokenizer: texts to ids.
        seed: of captions and crops.
    """

    def __init__(
        self,
        dataset: ShardedDataset,
        plan: BatchPlan,
        settings: DataSettings,
        spec: ClipSpec,
        tokenizer: Tokenizer,
        seed: int,
    ) -> None:
        self._dataset = dataset
        self._plan = plan
        self._captions: Literal["random", "first"] = settings.captions
        self._size = spec.vision.image_size
        self._context_length = spec.text.context_length
        self._transform = training_transform(settings, self._size)
        self._tokenizer = tokenizer
        self._seed = seed

    def make(self, step: int) -> Batch | None:
        """The batch of a step, without its unreadable samples; None after the end of the stream."""
        places = self._plan.batch(step)
        if not places:
            return None
        images = np.empty((len(places), self._size, self._size, 3), dtype=np.uint8)
        keys: list[str] = []
        texts: list[str] = []
        corrupt: dict[str, str] = {}
        for epoch, index in places:
            try:
                text, key = self._one(epoch, index, images, len(keys))
            except CorruptSampleError as error:
                corrupt[error.key] = str(error)
                continue
            keys.append(key)
            texts.append(text)
        tokens = torch.from_numpy(self._tokenizer(texts, self._context_length))
        return Batch(torch.from_numpy(images[: len(keys)]), tokens, keys, len(places), corrupt)

    def _one(
        self, epoch: int, index: int, images: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]", row: int
    ) -> tuple[str, str]:
        sample = self._dataset.sample(index)
        rng = sample_rng(self._seed, epoch, sample.key)
        text = pick_text(sample.texts, self._captions, rng)
        try:
            images[row] = self._transform(sample.image, rng)
        except IMAGE_ERRORS as error:
            raise CorruptSampleError(sample.key, f"image: {error}") from error
        return text, sample.key


class Loader:
    """Batches from a step onward, in order, `prefetch` of them ahead.

    Threads, not processes: decoding and resizing run outside Python's global lock, and a batch needs no copy between
    processes. Use as a context manager, so that the threads end with the block.

    Args:
        maker: makes the batch of a step.
        start: first step.
        workers: threads; 0 makes each batch when it is asked for.
        prefetch: batches under way or ready.
    """

    def __init__(self, maker: BatchMaker, start: int, workers: int, prefetch: int) -> None:
        self._maker = maker
        self._next = start
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="loader") if workers else None
        self._ahead = max(prefetch, workers)
        self._pending: deque[Future[Batch | None]] = deque()

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        batch = self._make()
        if batch is None:
            raise StopIteration
        return batch

    def _make(self) -> Batch | None:
        if self._pool is None:
            self._next += 1
            return self._maker.make(self._next - 1)
        while len(self._pending) < self._ahead:
            self._pending.append(self._pool.submit(self._maker.make, self._next))
            self._next += 1
        return self._pending.popleft().result()


class CorruptCount:
    """Remembers which samples were unreadable and stops the run when they are too many.

    Args:
        size: samples in the split.
        share: of them that may be unreadable.
        known: found earlier in this run.
    """

    def __init__(self, size: int, share: float, known: list[str]) -> None:
        self._allowed = int(size * share)
        self.keys = dict.fromkeys(known)

    def add(self, batch: Batch) -> None:
        """Counts a batch's unreadable samples, each once.

        Raises:
            UserError: they are too many, or nothing of the batch could be read.
        """
        self.keys.update(dict.fromkeys(batch.corrupt))
        reasons = list(batch.corrupt.values())
        if len(self.keys) > self._allowed and reasons:
            raise UserError(
                f"{len(self.keys)} samples are unreadable, more than data.max_corrupt allows ({self._allowed}); "
                f"the last was {reasons[-1]}: run `wit verify` on the dataset"
            )
        if not batch.keys:
            raise UserError(f"no sample of a whole batch is readable; the last was {reasons[-1]}: run `wit verify`")
