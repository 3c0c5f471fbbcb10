"""Embed a split: every image, every distinct text once, and which belong together."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from openwit.schemas.common.errors import DataError
from openwit.training.data.sharded import Dataset
from openwit.training.data.transforms import evaluation_transform, normalise
from openwit.training.evaluation.decoding import Decoded, Readable, S, decoded_batches
from openwit.training.evaluation.shares import ALONE, Shares
from openwit.training.tokenizer.bpe import Tokenizer

Progress = Callable[[int, int], None]
"""Receives (done, total) of the images and texts embedded."""


@dataclass(frozen=True)
class EmbeddedSplit:
    """Embeddings of unit length, float32, on the CPU.

    An entry is one text of one image: entry e joins image `entry_image[e]` to text `entry_text[e]`. Texts are
    distinct strings, so a text that several images share is one row and several entries.
    """

    images: Tensor  # (I, D)
    texts: Tensor  # (U, D)
    entry_image: NDArray[np.int64]  # (T,)
    entry_text: NDArray[np.int64]  # (T,)
    indices: NDArray[np.int64]  # (I,) number of each image's sample in the dataset
    captions: list[str]  # U distinct texts
    unreadable: list[str]  # keys of samples that were skipped
    images_sha256: str = ""  # of the readable images' encoded bytes, in order


class _Part(NamedTuple):
    """A batch of a split."""

    indices: list[int]
    texts: list[list[str]]  # of each image
    unreadable: list[str]
    rows: Tensor  # (images, D)
    checksums: bytes  # sha256 of each readable image


class _Range(Generic[S]):
    """Samples of a set from a number on."""

    def __init__(self, readable: Readable[S], start: int) -> None:
        self._readable, self._start = readable, start

    def __len__(self) -> int:
        return len(self._readable) - self._start

    def key(self, index: int) -> str:
        """Return the name of a sample."""
        return self._readable.key(self._start + index)

    def sample(self, index: int) -> S:
        """Read a sample; raises CorruptSampleError."""
        return self._readable.sample(self._start + index)


class Embedder:
    """A model ready to embed: device, precision, batch size and preprocessing in one place.

    Args:
        model: put into evaluation mode while it is used.
        tokenizer: texts to ids.
        device: where the model is.
        autocast: precision of the towers.
        batch_size: images or texts at once.
        shares: of the processes of a run; they get the same numbers as one process, and all make the same calls.

    Images are decoded exactly, in full, whatever training does.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        *,
        device: torch.device,
        autocast: torch.autocast,
        batch_size: int = 256,
        shares: Shares = ALONE,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._device = device
        self._autocast = autocast
        self._batch_size = batch_size
        self._shares = shares
        self._transform = evaluation_transform(model.inputs.image_size, fast=False, images=model.inputs.images)

    def split(
        self,
        dataset: Dataset,
        *,
        limit: int | None = None,
        progress: Progress | None = None,
        repeats: bool = False,
        prefix: str = "",
    ) -> EmbeddedSplit:
        """Embed the first `limit` samples of a split. Unreadable ones are skipped and listed in the result.

        Args:
            dataset: the samples.
            limit: None: all.
            progress: receives (done, total).
            repeats: a text that an image has twice is two entries, as benchmarks count, not one.
            prefix: is put before every text when it is embedded; the result has the texts without it.

        Raises:
            DataError: fewer than two samples are readable, so that there is nothing to choose between.
        """
        size = len(dataset) if limit is None else min(limit, len(dataset))
        mine = self._shares.of(-(-size // self._batch_size))
        found: dict[int, _Part] = {}
        done, seen = 0, set[str]()
        batches = decoded_batches(dataset, self._transform, size, self._batch_size, mine)
        for number, (chunk, bad) in zip(mine, batches, strict=True):
            rows = self.images(np.stack([decoded.pixels for decoded in chunk])) if chunk else self._blank_images()
            if number is None:
                continue
            texts = [list(words if repeats else dict.fromkeys(words)) for words in (d.sample.texts for d in chunk)]
            checksums = b"".join(hashlib.sha256(decoded.sample.image).digest() for decoded in chunk)
            found[number] = _Part([decoded.number for decoded in chunk], texts, bad, rows[: len(chunk)], checksums)
            done += len(chunk) + len(bad)
            seen.update(text for each in texts for text in each)
            if progress is not None:
                progress(done, size + len(seen))
        parts = self._shares.joined(found)
        unreadable = [key for part in parts for key in part.unreadable]
        indices = [index for part in parts for index in part.indices]
        images = [part.rows for part in parts if part.indices]
        numbers: dict[str, int] = {}
        entries: list[tuple[int, int]] = []
        for image, texts_of in enumerate(each for part in parts for each in part.texts):
            entries.extend((image, numbers.setdefault(text, len(numbers))) for text in texts_of)
        if len(indices) < 2:
            raise DataError(
                f"{dataset.name}/{dataset.split} has {len(indices)} readable images, but retrieval needs "
                "at least two: choose another split"
            )
        captions = list(numbers)
        texts_embedded = self.texts(
            [prefix + caption for caption in captions],
            progress=None if progress is None else partial(_shifted, progress, size, len(captions)),
        )
        joined = np.array(entries, dtype=np.int64)
        return EmbeddedSplit(
            _finite(torch.cat(images), "images"),
            texts_embedded,
            joined[:, 0],
            joined[:, 1],
            np.array(indices, dtype=np.int64),
            captions,
            unreadable,
            hashlib.sha256(b"".join(part.checksums for part in parts)).hexdigest(),
        )

    def each_image(
        self, readable: Readable[S], start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[list[Decoded[S]], list[str], Tensor]]:
        """Yield the samples of a range batch by batch: those that could be read, keys of the others, and (B, D) rows.

        Args:
            readable: the samples.
            start, stop: numbers of the first and after the last one; None: to the end.
        """
        count = (len(readable) if stop is None else min(stop, len(readable))) - start
        part = _Range(readable, start)
        every = range(-(-count // self._batch_size))
        for chunk, bad in decoded_batches(part, self._transform, count, self._batch_size, every):
            rows = self.images(np.stack([decoded.pixels for decoded in chunk])) if chunk else torch.empty(0, 0)
            yield [decoded._replace(number=decoded.number + start) for decoded in chunk], bad, rows

    def images(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Embed uint8 (B, H, W, 3): (B, D) float32 on the CPU.

        Raises:
            DataError: embeddings are not finite. With several processes `split` finds that, in all of them.
        """
        with torch.inference_mode(), evaluating(self._model), self._autocast:
            batch = normalise(torch.from_numpy(pixels).to(self._device), images=self._model.inputs.images)
            embedded: Tensor = self._model.encode_image(batch).cpu()
        return embedded if self._shares.group is not None else _finite(embedded, "images")

    def texts(self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None) -> Tensor:
        """Embed texts: (len(texts), D) on the CPU. Texts of similar length are batched together, to save padding.

        Raises:
            DataError: embeddings are not finite.
        """
        context_length = self._model.inputs.context_length
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        found: dict[int, Tensor] = {}
        for number in self._shares.of(-(-len(order) // self._batch_size)):
            start = 0 if number is None else number * self._batch_size
            chosen = order[start : start + self._batch_size] if number is not None else order[:1]
            tokens = torch.from_numpy(self._tokenizer([texts[one] for one in chosen], context_length))
            with torch.inference_mode(), evaluating(self._model), self._autocast:
                rows = self._model.encode_text(tokens.to(self._device)).cpu()
            if number is not None:
                found[number] = rows
            if progress is not None:
                progress(start + len(chosen))
        joined = _finite(torch.cat(self._shares.joined(found)), "texts")
        embedded = torch.empty(len(texts), joined.shape[1])
        embedded[order] = joined
        return embedded

    def _blank_images(self) -> Tensor:
        """Embed nothing, as one blank image where other ranks need this one to take part."""
        if not self._shares.padded:
            return torch.empty(0)
        size = self._model.inputs.image_size
        return self.images(np.zeros((1, size, size, 3), dtype=np.uint8))[:0]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode while the block runs, then restore its previous mode."""
    before = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(before)


def _shifted(progress: Progress, before: int, count: int, done: int) -> None:
    progress(before + done, before + count)


def _finite(rows: Tensor, what: str) -> Tensor:
    if not rows.isfinite().all():
        raise DataError(f"embeddings of {what} are not finite: the weights are damaged, or the run diverged")
    return rows
