"""Embed a split: every image, every distinct text once, and which belong together."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from openwit.schemas.common.errors import DataError
from openwit.training.data.sharded import Dataset
from openwit.training.data.transforms import evaluation_transform, normalise
from openwit.training.evaluation.decoding import decoded_batches
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


class Embedder:
    """A model ready to embed: device, precision, batch size and preprocessing in one place.

    Args:
        model: put into evaluation mode while it is used.
        tokenizer: texts to ids.
        device: where the model is.
        autocast: precision of the towers.
        batch_size: images or texts at once.
        fast_decode: see `DataSettings.decode`.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        *,
        device: torch.device,
        autocast: torch.autocast,
        batch_size: int = 256,
        fast_decode: bool = True,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._device = device
        self._autocast = autocast
        self._batch_size = batch_size
        self._transform = evaluation_transform(model.inputs.image_size, fast=fast_decode, images=model.inputs.images)

    def split(self, dataset: Dataset, *, limit: int | None = None, progress: Progress | None = None) -> EmbeddedSplit:
        """Embed the first `limit` samples of a split. Unreadable ones are skipped and listed in the result.

        Raises:
            DataError: fewer than two samples are readable, so that there is nothing to choose between.
        """
        size = len(dataset) if limit is None else min(limit, len(dataset))
        unreadable: list[str] = []
        indices: list[int] = []
        numbers: dict[str, int] = {}
        entries: list[tuple[int, int]] = []
        images: list[Tensor] = []
        for chunk in decoded_batches(dataset, self._transform, size, self._batch_size, unreadable):
            for decoded in chunk:
                texts = dict.fromkeys(decoded.sample.texts)
                entries.extend((len(indices), numbers.setdefault(text, len(numbers))) for text in texts)
                indices.append(decoded.number)
            if chunk:
                images.append(self.images(np.stack([decoded.pixels for decoded in chunk])))
            if progress is not None:
                progress(len(indices) + len(unreadable), size + len(numbers))
        if len(indices) < 2:
            raise DataError(
                f"split {dataset.split!r} of {dataset.folder} has {len(indices)} readable images, but retrieval needs "
                "at least two: choose another split"
            )
        captions = list(numbers)
        texts_embedded = self.texts(
            captions, progress=None if progress is None else partial(_shifted, progress, size, len(captions))
        )
        joined = np.array(entries, dtype=np.int64)
        return EmbeddedSplit(
            torch.cat(images),
            texts_embedded,
            joined[:, 0],
            joined[:, 1],
            np.array(indices, dtype=np.int64),
            captions,
            unreadable,
        )

    def images(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Embed uint8 (B, H, W, 3): (B, D) float32 on the CPU."""
        with torch.inference_mode(), evaluating(self._model), self._autocast:
            batch = normalise(torch.from_numpy(pixels).to(self._device), images=self._model.inputs.images)
            embedded: Tensor = self._model.encode_image(batch).cpu()
        return embedded

    def texts(self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None) -> Tensor:
        """Embed texts: (len(texts), D) on the CPU. Texts of similar length are batched together, to save padding."""
        context_length = self._model.inputs.context_length
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        embedded: Tensor | None = None
        for start in range(0, len(order), self._batch_size):
            chosen = order[start : start + self._batch_size]
            tokens = torch.from_numpy(self._tokenizer([texts[number] for number in chosen], context_length))
            with torch.inference_mode(), evaluating(self._model), self._autocast:
                rows = self._model.encode_text(tokens.to(self._device)).cpu()
            if embedded is None:
                embedded = torch.empty(len(texts), rows.shape[1])
            embedded[chosen] = rows
            if progress is not None:
                progress(start + len(chosen))
        assert embedded is not None, "there are texts"
        return embedded


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
