"""Index many vectors with faiss, and state how many of the exact nearest the index finds.

The vectors are divided into cells around centres (an inverted file); a search looks into the nearest cells only. As
they are stored in float16, an index takes 2 bytes a dimension. How many cells are looked into is the fewest that reach
the wanted recall on a sample of queries, whose exact answers are computed.
"""

import importlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openwit.schemas.common.atomic import atomic_path, atomic_write, sha256_of
from openwit.schemas.common.errors import DataError, RecipeError, StorageError
from openwit.schemas.common.sealed import seal, unseal
from openwit.training.evaluation.search.exact import Nearest, exact_search
from openwit.training.evaluation.search.vectors import Vectors, open_vectors

INDEX = "index.json"
_VECTORS = "vectors.faiss"
_SAMPLE = 1_000
_K = 10
_TRAIN_PER_CELL = 64
_LEAST_PER_CELL = 39  # fewer, and faiss warns that the centres are poor


def faiss_module() -> Any:
    """Import faiss.

    Raises:
        RecipeError: it is not installed.
    """
    try:
        return importlib.import_module("faiss")
    except ImportError:
        raise RecipeError(
            "an index needs faiss, which is not installed: pip install 'openwit[search]'; without it "
            "`wit-train search` compares with every vector"
        ) from None


def build_index(
    vectors: Vectors, out: Path, *, recall: float = 0.95, seed: int = 0, report: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Write an index of embeddings, and return its description with the recall that was measured.

    Memory holds the index, 2 bytes a dimension of every vector, a block of vectors, and a sample to learn centres of.

    Args:
        vectors: the embeddings.
        out: folder to write; must not exist yet, or be empty.
        recall: wanted share of the 10 exact nearest among the 10 that are found.
        seed: of the samples.
        report: receives sentences on what is done.

    Raises:
        RecipeError: faiss is not installed.
        StorageError: the folder is not empty.
    """
    faiss = faiss_module()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StorageError(f"{out} exists already: choose another folder")
    count, dimension = len(vectors), vectors.dimension
    cells = max(1, min(int(4 * math.sqrt(count)), count // _LEAST_PER_CELL))
    report(f"{count:,} vectors of {dimension} dimensions in {cells:,} cells")
    centres = faiss.IndexFlatIP(dimension)
    index = faiss.IndexIVFScalarQuantizer(
        centres, dimension, cells, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    index.train(_sampled(vectors, min(count, cells * _TRAIN_PER_CELL), seed))
    for _, block in vectors.blocks():
        index.add(block)
    queries = _sampled(vectors, min(count, _SAMPLE), seed + 1)
    exact = exact_search(vectors.blocks(), queries, min(_K, count))
    probes, found = _enough_probes(index, queries, exact, recall, cells)
    with atomic_path(out / _VECTORS) as path:
        faiss.write_index(index, str(path))
    described = {
        "embeddings": str(vectors.folder.absolute()),
        "of": vectors.of,
        "vectors": count,
        "dimension": dimension,
        "model": vectors.model,
        "kind": f"IVF{cells},SQfp16",
        "probes": probes,
        "recall": found,
        "recall_of": f"the {_K} exact nearest of {len(queries)} of its own vectors",
        "sha256": sha256_of(out / _VECTORS),
        "faiss": faiss.__version__,
    }
    atomic_write(out / INDEX, seal(json.dumps(described, indent=1)))
    report(f"recall {100 * found:.1f}% of {described['recall_of']}, with {probes:,} of {cells:,} cells looked into")
    return described


class FaissIndex:
    """An index that was written, memory-mapped.

    Args:
        folder: of `build_index`.

    Raises:
        RecipeError: faiss is not installed.
        DataError: there is no finished index, it is damaged, or its embeddings are gone or others.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / INDEX
        if not path.is_file():
            raise DataError(f"{folder} holds no finished index ({INDEX} is missing)")
        self.about: dict[str, Any] = json.loads(unseal(path.read_bytes(), path))
        faiss = faiss_module()
        self.vectors = open_vectors(Path(self.about["embeddings"]), self.about["of"])
        if self.vectors.model != self.about["model"] or len(self.vectors) != self.about["vectors"]:
            raise DataError(
                f"{self.vectors.folder} holds other embeddings than {folder} was made of: index them again"
            )
        try:
            self._index = faiss.read_index(str(folder / _VECTORS), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
        except RuntimeError as error:
            raise DataError(f"{folder / _VECTORS} cannot be read: {str(error).splitlines()[0][:200]}") from None
        if (self._index.ntotal, self._index.d) != (self.about["vectors"], self.about["dimension"]):
            raise DataError(f"{folder / _VECTORS} is of another size than {INDEX} says: index again")
        self._index.nprobe = self.about["probes"]

    def search(self, queries: NDArray[np.float32], k: int) -> Nearest:
        """Return about the k nearest of each query; -1 where fewer were found."""
        scores, numbers = self._index.search(np.ascontiguousarray(queries, dtype=np.float32), k)
        return Nearest(scores, numbers)


def _enough_probes(
    index: Any, queries: NDArray[np.float32], exact: Nearest, wanted: float, cells: int
) -> tuple[int, float]:
    """Return the fewest cells, doubling, that reach a recall, and the recall that they reach."""
    probes = 1
    while True:
        index.nprobe = probes
        _, numbers = index.search(queries, exact.numbers.shape[1])
        hits = sum(len(np.intersect1d(one, two)) for one, two in zip(numbers, exact.numbers, strict=True))
        found = hits / exact.numbers.size
        if found >= wanted or probes == cells:
            return probes, float(found)
        probes = min(cells, 2 * probes)


def _sampled(vectors: Vectors, count: int, seed: int) -> NDArray[np.float32]:
    """Return some vectors, drawn without replacement, in their order."""
    chosen = np.sort(np.random.default_rng(seed).choice(len(vectors), count, replace=False))
    found = []
    for first, block in vectors.blocks():
        inside = chosen[(chosen >= first) & (chosen < first + len(block))] - first
        found.append(block[inside])
    return np.concatenate(found)
