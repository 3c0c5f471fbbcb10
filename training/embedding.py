"""Embed with a model of the trainer in a build: the functions that the stage `embed` names.

    - embed:
        images: {name: openwit.training.embedding.Images, model: out/demo/run}
        texts: {name: openwit.training.embedding.Texts, model: out/demo/run}

A build has a worker for each core, so each uses one thread unless `threads` says otherwise; where there is a GPU, all
workers of the machine share it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from openwit.schemas.common.errors import RecipeError
from openwit.training.checkpoints.load import LoadedModel, load_model
from openwit.training.data.loader import IMAGE_ERRORS
from openwit.training.data.sampling import sample_rng
from openwit.training.data.transforms import evaluation_transform
from openwit.training.evaluation.embed import Embedder
from openwit.training.evaluation.retrieval_report import embedder_of
from openwit.training.evaluation.search.identity import identity_of


class _Function:
    """A model that embeds.

    Args:
        model: run folder, checkpoint or weights, as `wit-train embed` takes them.
        weights: `model`, or `ema` for their moving average.
        quick_gelu: of weights of other programs.
        threads: CPU threads of each worker.

    Raises:
        OpenWITError: there is no such model, or it has no embeddings.
    """

    def __init__(self, model: str, weights: str = "model", quick_gelu: bool | None = None, threads: int = 1) -> None:
        if not isinstance(threads, int) or not 1 <= threads <= 4096:
            raise RecipeError(f"threads must be a number from 1 to 4096, not {threads!r}")
        torch.set_num_threads(threads)
        self._model = _loaded(model, weights, quick_gelu)
        self._embedder: Embedder = embedder_of(self._model, batch_size=256)

    @classmethod
    def identity(
        cls,
        model: str,
        weights: str = "model",
        quick_gelu: bool | None = None,
        threads: int = 1,  # noqa: ARG003
    ) -> dict[str, Any]:
        """Return the checksum of the weights, and what else decides which function they are."""
        return identity_of(_loaded(model, weights, quick_gelu))


class Images(_Function):
    """Embed encoded images; one that cannot be read gets a row of NaN."""

    def __call__(self, images: Sequence[bytes]) -> NDArray[np.float32]:
        """Return (len(images), D), of unit length."""
        inputs = self._model.model.inputs
        transform = evaluation_transform(inputs.image_size, fast=False, images=inputs.images)
        pixels, read = [], []
        for number, image in enumerate(images):
            try:
                pixels.append(transform(image, sample_rng(0, 0, "")))
                read.append(number)
            except IMAGE_ERRORS:
                continue
        blank = np.zeros((1, inputs.image_size, inputs.image_size, 3), np.uint8)
        rows = self._embedder.images(np.stack(pixels) if pixels else blank).numpy()
        vectors = np.full((len(images), rows.shape[1]), np.nan, np.float32)
        vectors[read] = rows[: len(read)]
        return vectors


class Texts(_Function):
    """Embed texts, each after `prefix`."""

    def __init__(
        self,
        model: str,
        weights: str = "model",
        quick_gelu: bool | None = None,
        threads: int = 1,
        prefix: str = "",
    ) -> None:
        super().__init__(model, weights, quick_gelu, threads)
        self._prefix = prefix

    @classmethod
    def identity(
        cls,
        model: str,
        weights: str = "model",
        quick_gelu: bool | None = None,
        threads: int = 1,
        prefix: str = "",  # noqa: ARG003
    ) -> dict[str, Any]:
        """Return the checksum of the weights, and what else decides which function they are."""
        return super().identity(model, weights, quick_gelu, threads)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (len(texts), D), of unit length."""
        found: NDArray[np.float32] = self._embedder.texts([self._prefix + text for text in texts]).numpy()
        return found


def _loaded(model: str, weights: str, quick_gelu: bool | None) -> LoadedModel:
    found = load_model(Path(model) if "://" not in model else model, weights=weights, quick_gelu=quick_gelu)
    if not found.embeds:
        raise RecipeError(f"{model} was trained for {found.objective_name}, which has no embeddings")
    return found
