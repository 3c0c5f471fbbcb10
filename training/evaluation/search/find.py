"""Search embeddings by a text or an image, embedded by the same model: the nearest rows, and what they are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openwit.schemas.common.errors import DataError, RecipeError
from openwit.schemas.common.matching_paths import refuse_special
from openwit.training.checkpoints.load import LoadedModel
from openwit.training.data.loader import IMAGE_ERRORS
from openwit.training.data.sampling import sample_rng
from openwit.training.data.transforms import evaluation_transform
from openwit.training.engine.runtime import cpu_prepared
from openwit.training.evaluation.retrieval_report import embedder_of
from openwit.training.evaluation.search.approximate import INDEX, FaissIndex
from openwit.training.evaluation.search.exact import Nearest, exact_search
from openwit.training.evaluation.search.identity import check_same
from openwit.training.evaluation.search.vectors import Vectors, open_vectors


@dataclass(frozen=True)
class Found:
    """One of the nearest: its score, number among the embeddings, and what it is."""

    score: float
    number: int
    key: str
    url: str | None
    caption: str
    row: dict[str, Any]


@dataclass(frozen=True)
class Searchable:
    """Embeddings to search: with an index, or one vector after the other."""

    where: Path
    vectors: Vectors
    index: FaissIndex | None

    def nearest(self, queries: NDArray[np.float32], k: int) -> Nearest:
        """Return the nearest k of each query.

        Raises:
            DataError: the queries have another dimension.
        """
        if queries.shape[1] != self.vectors.dimension:
            raise DataError(
                f"{self.where} has vectors of {self.vectors.dimension} dimensions, the model's have "
                f"{queries.shape[1]}: give the model that made them"
            )
        k = min(k, len(self.vectors))
        return exact_search(self.vectors.blocks(), queries, k) if self.index is None else self.index.search(queries, k)


def open_searchable(where: Path, of: str | None) -> Searchable:
    """Open an index, or the embeddings themselves.

    Args:
        where: folder of `wit-train index`, `wit-train embed` or the stage `embed`.
        of: `images` or `texts` of embeddings; None: images. An index is of one of both.

    Raises:
        DataError: it is neither.
        RecipeError: the index is of the other.
    """
    refuse_special(where, str(where))
    if not where.exists():
        raise DataError(f"{where} does not exist")
    if not (where / INDEX).exists():
        return Searchable(where, open_vectors(where, of or "images"), None)
    index = FaissIndex(where)
    if of is not None and of != index.vectors.of:
        raise RecipeError(f"{where} is an index of {index.vectors.of}, not of {of}")
    return Searchable(where, index.vectors, index)


def embed_query(model: LoadedModel, *, text: str | None, image: Path | None) -> NDArray[np.float32]:
    """Return (1, D), the embedding of a text or of an image file.

    Raises:
        DataError: the file cannot be read as an image.
        RecipeError: the model has no embeddings.
    """
    if not model.embeds:
        raise RecipeError(f"the model was trained for {model.objective_name}, which has no embeddings to search by")
    embedder = embedder_of(model, batch_size=1)
    with cpu_prepared(model.threads):
        if text is not None:
            return embedder.texts([text]).numpy()
        assert image is not None, "a query is a text or an image"
        refuse_special(image, str(image))
        inputs = model.model.inputs
        transform = evaluation_transform(inputs.image_size, fast=False, images=inputs.images)
        try:
            pixels = transform(image.read_bytes(), sample_rng(0, 0, image.name))
        except (OSError, *IMAGE_ERRORS) as error:
            why = getattr(error, "strerror", None)
            raise DataError(f"{image} cannot be read as an image{f': {why}' if why else ''}") from None
        return embedder.images(pixels[None]).numpy()


def search(searchable: Searchable, model: LoadedModel, *, text: str | None, image: Path | None, k: int) -> list[Found]:
    """Return the nearest rows to a text or an image, best first.

    Raises:
        RecipeError: the model did not make the embeddings.
        DataError: the image cannot be read, or the embeddings are damaged.
    """
    if searchable.vectors.model:
        check_same(searchable.vectors.model, model, searchable.where)
    nearest = searchable.nearest(embed_query(model, text=text, image=image), k)
    numbers = [int(number) for number in nearest.numbers[0] if number >= 0]
    rows = searchable.vectors.rows(numbers)
    return [
        Found(float(score), number, str(row.get("key")), row.get("url"), row.get("caption") or "", row)
        for score, number, row in zip(nearest.scores[0], numbers, rows, strict=False)
    ]
