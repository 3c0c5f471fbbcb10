"""Batches by number, prepared ahead by threads. Any step can be made at any time, so resuming is starting at one."""

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from openwit.schemas.common.errors import OpenWITError
from openwit.training.config.train import DataSettings
from openwit.training.data.sampling import Plan, pick_text, sample_rng
from openwit.training.data.sharded import CorruptSampleError, Dataset, Sample
from openwit.training.data.transforms import Crop, ImageTransform, ResizedCrop, SquareCrop
from openwit.training.models.zoo import ClipSpec
from openwit.training.tokenizer.bpe import Tokenizer

# What Pillow raises on bytes that are no whole image.
IMAGE_ERRORS = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


@dataclass(frozen=True)
class Batch:
    """One process's input to a step.

    `seen` is what the stream moved on by: the samples of the step over all processes, unreadable ones included. A
    process's own part may be empty, where a step holds fewer samples than there are processes or all are unreadable.
    """

    images: torch.Tensor  # uint8 (B, H, W, 3), in memory plane after plane: a permuted view of (B, 3, H, W)
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


@dataclass(frozen=True)
class Preparation:
    """What is done to a sample, whatever it was read from.

    Args:
        settings: captions and augmentation.
        spec: image size and context length.
        tokenizer: texts to ids.
        seed: of captions and crops.
        pinned: batches stand in page-locked memory, from which a GPU copies them without being waited for.
    """

    settings: DataSettings
    spec: ClipSpec
    tokenizer: Tokenizer
    seed: int
    pinned: bool = False

    def batch(self, samples: Sequence[Callable[[], tuple[int, Sample]]], seen: int, corrupt: dict[str, str]) -> Batch:
        """A batch of samples, those left out that cannot be read.

        Args:
            samples: each gives (epoch, sample), or raises CorruptSampleError.
            seen: see `Batch`.
            corrupt: samples already known to be unreadable.
        """
        size = self.spec.vision.image_size
        transform = training_transform(self.settings, size)
        captions: Literal["random", "first"] = self.settings.captions
        memory = torch.empty((len(samples), 3, size, size), dtype=torch.uint8, pin_memory=self.pinned)
        images = memory.numpy()
        keys: list[str] = []
        texts: list[str] = []
        corrupt = dict(corrupt)
        for read in samples:
            try:
                epoch, sample = read()
                rng = sample_rng(self.seed, epoch, sample.key)
                text = pick_text(sample.texts, captions, rng)
                _decode(transform, images[len(keys)], sample, rng)
            except CorruptSampleError as error:
                corrupt[error.key] = str(error)
                continue
            keys.append(sample.key)
            texts.append(text)
        tokens = torch.from_numpy(self.tokenizer(texts, self.spec.text.context_length))
        # Planes one after the other: a CPU then converts whole rows, and a GPU does not mind.
        tokens = tokens.pin_memory() if self.pinned else tokens
        return Batch(memory[: len(keys)].permute(0, 2, 3, 1), tokens, keys, seen, corrupt)


def _decode(transform: ImageTransform, planes: NDArray[np.uint8], sample: Sample, rng: random.Random) -> None:
    try:
        transform.into(planes, sample.image, rng)
    except IMAGE_ERRORS as error:
        raise CorruptSampleError(sample.key, f"image: {error}") from error


class BatchMaker:
    """Makes the batch of any step.

    Args:
        dataset: the samples.
        plan: which samples stand in which step.
        settings: captions and augmentation.
        spec: image size and context length.
        tokenizer: texts to ids.
        seed: of captions and crops.
        rank, world: which of how many processes this is; each makes a contiguous part of every batch, in rank order.
        pinned: see `Preparation`.
    """

    def __init__(
        self,
        dataset: Dataset,
        plan: Plan,
        settings: DataSettings,
        spec: ClipSpec,
        tokenizer: Tokenizer,
        seed: int,
        rank: int = 0,
        world: int = 1,
        pinned: bool = False,
    ) -> None:
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} of {world} processes")
        self._rank, self._world = rank, world
        self._dataset = dataset
        self._plan = plan
        self._preparation = Preparation(settings, spec, tokenizer, seed, pinned)

    def make(self, step: int) -> Batch | None:
        """This process's part of a step's batch, without its unreadable samples; None after the end of the stream.

        The end comes at the same step in every process.
        """
        places, seen = self._plan.share(step, self._rank, self._world)
        if not seen:
            return None
        return self._preparation.batch([partial(self._read, *place) for place in places], seen, {})

    def _read(self, epoch: int, index: int) -> tuple[int, Sample]:
        return epoch, self._dataset.sample(index)


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
        self._known = len(known)
        self._last = ""
        self.keys = dict.fromkeys(known)

    def add(self, batch: Batch) -> None:
        """Counts a batch's unreadable samples, each once, where this is the only process.

        Raises:
            OpenWITError: they are too many, or nothing of the batch could be read.
        """
        self.note(batch)
        self.check(len(self.keys), len(batch.keys))

    def note(self, batch: Batch) -> None:
        """Counts the unreadable samples of this process's part of a batch, each once."""
        self.keys.update(dict.fromkeys(batch.corrupt))
        for reason in batch.corrupt.values():
            self._last = reason

    def check(self, unreadable: int, readable: int) -> None:
        """Stops the run where it must stop. With several processes each gives the sums over all, so that all stop.

        A sample that was met by two processes, in two epochs, counts twice in such a sum.

        Args:
            unreadable: samples found so far (`len(keys)`).
            readable: samples of the step that can be trained on (`len(batch.keys)`).

        Raises:
            OpenWITError: they are too many, or nothing of the batch could be read.
        """
        last = f"; the last was {self._last}" if self._last else ""
        if unreadable > self._allowed and unreadable > self._known:
            raise OpenWITError(
                f"{unreadable} samples are unreadable, more than data.max_corrupt allows ({self._allowed})"
                f"{last}: run `wit verify` on the dataset"
            )
        if not readable:
            raise OpenWITError(f"no sample of a whole batch is readable{last}: run `wit verify`")
