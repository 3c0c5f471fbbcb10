"""Embeddings of a split: every image, every distinct text once, and which belongs to which."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas.errors import UserError
from training.data import CorruptSampleError, ShardedDataset
from training.loader import IMAGE_ERRORS
from training.models.clip import Clip
from training.sampling import sample_rng
from training.tokenizer import Tokenizer
from training.transforms import ImageTransform, evaluation_transform, normalise

Report = Callable[[int, int], None]
"""(done, all) of the images and texts embedded so far."""


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
    unreadable: list[str]  # keys of samples that were left out


class _Loaded(NamedTuple):
    number: int
    pixels: NDArray[np.uint8]
    texts: tuple[str, ...]


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
        model: Clip,
        tokenizer: Tokenizer,
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
        self._transform = evaluation_transform(model.spec.vision.image_size, fast_decode)

    def split(self, dataset: ShardedDataset, limit: int | None = None, report: Report | None = None) -> EmbeddedSplit:
        """Embeds the first `limit` samples of a split. Unreadable ones are left out and named in the answer.

        Raises:
            UserError: fewer than two samples are readable, so that there is nothing to choose between.
        """
        size = len(dataset) if limit is None else min(limit, len(dataset))
        unreadable: list[str] = []
        indices: list[int] = []
        numbers: dict[str, int] = {}
        entries: list[tuple[int, int]] = []
        images: list[Tensor] = []
        for chunk in _chunks(dataset, self._transform, size, self._batch_size, unreadable):
            for sample in chunk:
                texts = dict.fromkeys(sample.texts)
                entries.extend((len(indices), numbers.setdefault(text, len(numbers))) for text in texts)
                indices.append(sample.number)
            if chunk:
                images.append(self.images(np.stack([sample.pixels for sample in chunk])))
            if report is not None:
                report(len(indices) + len(unreadable), size + len(numbers))
        if len(indices) < 2:
            raise UserError(
                f"split {dataset.split!r} of {dataset.folder} has {len(indices)} readable images, but retrieval needs "
                "at least two: choose another split"
            )
        captions = list(numbers)
        texts_embedded = self.texts(
            captions, None if report is None else partial(_shifted, report, size, len(captions))
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
        """(B, H, W, 3) bytes to (B, D) embeddings on the CPU."""
        with torch.inference_mode(), self._evaluating(), self._autocast:
            batch = normalise(torch.from_numpy(pixels).to(self._device))
            return self._model.encode_image(batch).cpu()

    def texts(self, texts: Sequence[str], report: Callable[[int], None] | None = None) -> Tensor:
        """(len(texts), D) embeddings on the CPU. Texts of similar length are embedded together, to save padding."""
        context_length = self._model.spec.text.context_length
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        embedded = torch.empty(len(texts), self._model.spec.embed_dim)
        for start in range(0, len(order), self._batch_size):
            chosen = order[start : start + self._batch_size]
            tokens = torch.from_numpy(self._tokenizer([texts[number] for number in chosen], context_length))
            with torch.inference_mode(), self._evaluating(), self._autocast:
                embedded[chosen] = self._model.encode_text(tokens.to(self._device)).cpu()
            if report is not None:
                report(start + len(chosen))
        return embedded

    def _evaluating(self) -> "_EvaluationMode":
        return _EvaluationMode(self._model)


class _EvaluationMode:
    """Puts a model into evaluation mode for a block, and back into the mode it was in."""

    def __init__(self, model: Clip) -> None:
        self._model = model
        self._training = model.training

    def __enter__(self) -> None:
        self._model.eval()

    def __exit__(self, *_: object) -> None:
        self._model.train(self._training)


def _shifted(report: Report, before: int, own: int, done: int) -> None:
    report(before + done, before + own)


def _chunks(
    dataset: ShardedDataset, transform: ImageTransform, size: int, batch_size: int, unreadable: list[str]
) -> Iterator[list[_Loaded]]:
    """Samples 0 to size in batches, the next batch decoded while the last is embedded."""

    def load(start: int) -> tuple[list[_Loaded], list[str]]:
        loaded: list[_Loaded] = []
        bad: list[str] = []
        for index in range(start, min(start + batch_size, size)):
            try:
                sample = dataset.sample(index)
                pixels = transform(sample.image, sample_rng(0, 0, sample.key))
            except (CorruptSampleError, *IMAGE_ERRORS):
                bad.append(dataset.key(index))
                continue
            loaded.append(_Loaded(index, pixels, sample.texts))
        return loaded, bad

    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(load, 0)
        for start in range(0, size, batch_size):
            loaded, bad = following.result()
            if start + batch_size < size:
                following = pool.submit(load, start + batch_size)
            unreadable.extend(bad)
            yield loaded
