"""Embed a whole set into a folder of clip-retrieval's layout, in parts that are complete or absent.

Parts are ranges of samples, so they are the same for any number of processes, and each is made by one of them; a
process that is killed loses the part it was making. Rows are samples whose image could be read, in order: row i of
`img_emb_N.npy`, of `text_emb_N.npy` and of `metadata_N.parquet` are one sample. Its text is its first.
"""

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from openwit.schemas.common.atomic import atomic_path
from openwit.schemas.common.errors import RecipeError
from openwit.training.checkpoints.load import LoadedModel
from openwit.training.data.sample_texts import CorruptSampleError
from openwit.training.data.sharded import Dataset, ShardedDataset
from openwit.training.engine.runtime import cpu_prepared
from openwit.training.evaluation.embed import Embedder
from openwit.training.evaluation.file_stats import stats_digest
from openwit.training.evaluation.retrieval_report import embedder_of
from openwit.training.evaluation.search.identity import identity_of
from openwit.training.evaluation.search.parts import PartNames, PartRecord, claim, finish, finished, write_summary

Floats = Literal["float16", "float32"]
BOTH = ("images", "texts")
_METADATA = pa.schema(
    [*((name, pa.string()) for name in ("image_path", "caption", "key", "url")), ("sample", pa.int64())]
)


@dataclass(frozen=True)
class EmbedSettings:
    """What is embedded and how it is written.

    Attributes:
        of: `images`, `texts` or both.
        dtype: of the arrays.
        part: samples in a part.
        batch_size: images or texts embedded at once.
        prefix: is put before every text.
        rank, size: number of this process, and number of processes.
        source: how the data were named, to find their images again; JSON data.
        model_path: how the model was named.
    """

    _: KW_ONLY
    of: Sequence[str] = BOTH
    dtype: Floats = "float16"
    part: int = 50_000
    batch_size: int = 256
    prefix: str = ""
    rank: int = 0
    size: int = 1
    source: dict[str, Any] = field(default_factory=dict)
    model_path: str = ""


@dataclass(frozen=True)
class EmbedOutcome:
    """What a process did: parts made by it, and the records of all parts if all are finished."""

    made: int
    records: list[PartRecord] | None

    @property
    def unreadable(self) -> list[str]:
        """Keys of samples that could not be read."""
        return [key for record in self.records or () for key in record.unreadable]


def write_embeddings(
    model: LoadedModel,
    dataset: Dataset,
    out: Path,
    settings: EmbedSettings,
    *,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> EmbedOutcome:
    """Embed a set into a folder; a second run resumes, and does nothing if all is there.

    Memory holds the arrays of one part and a batch of images. The same model and data give the same bytes on the same
    machine with the same batch size and number of threads.

    Args:
        model: of `load_model`.
        dataset: the samples.
        out: the folder.
        settings: see `EmbedSettings`.
        progress: receives (done, total) samples of this process.

    Raises:
        RecipeError: the model has no embeddings, or the folder holds those of something else.
        StorageError: the folder holds other files.
    """
    if not model.embeds:
        raise RecipeError(f"the model was trained for {model.objective_name}, which has no embeddings")
    names = PartNames(out, max(1, -(-len(dataset) // settings.part)))
    plan = _plan(model, dataset, settings, out)
    claim(out, plan)
    mine = range(settings.rank, names.count, settings.size)
    total = sum(min(settings.part, len(dataset) - number * settings.part) for number in mine)
    made = done = 0
    writer = _Writer(embedder_of(model, batch_size=settings.batch_size), dataset, names, settings)
    with cpu_prepared(model.threads):
        for number in mine:
            if finished(names, number) is None:
                writer.write(number, partial(_shifted, progress, done, total))
                made += 1
            done += min(settings.part, len(dataset) - number * settings.part)
            progress(done, total)
    records = [finished(names, number, compare=False) for number in range(names.count)]
    if any(record is None for record in records):
        return EmbedOutcome(made, None)
    every = [record for record in records if record is not None]
    write_summary(out, _summary(model, plan, settings, every, out))
    return EmbedOutcome(made, every)


def _shifted(progress: Callable[[int, int], None], before: int, total: int, done: int) -> None:
    progress(before + done, total)


class _Writer:
    """Makes parts, one after the other."""

    def __init__(self, embedder: Embedder, dataset: Dataset, names: PartNames, settings: EmbedSettings) -> None:
        self._embedder, self._dataset, self._names, self._settings = embedder, dataset, names, settings

    def write(self, number: int, progress: Callable[[int], None]) -> None:
        """Write the files of a part and its record."""
        start = number * self._settings.part
        stop = min(start + self._settings.part, len(self._dataset))
        arrays: dict[str, list[NDArray[Any]]] = {name: [] for name in self._settings.of}
        rows: list[dict[str, Any]] = []
        unreadable: list[str] = []
        for chunk, bad, embedded in self._embedder.each_image(self._dataset, start, stop):
            unreadable += bad
            if chunk:
                captions = [decoded.sample.texts[0] if decoded.sample.texts else "" for decoded in chunk]
                self._add(arrays, embedded, captions)
                rows += [
                    self._row(decoded.number, decoded.sample.key, text)
                    for decoded, text in zip(chunk, captions, strict=True)
                ]
            progress(len(rows) + len(unreadable))
        files = self._save(number, arrays, rows) if rows else []
        finish(self._names, number, len(rows), files, unreadable)

    def _add(self, arrays: dict[str, list[NDArray[Any]]], images: torch.Tensor, captions: list[str]) -> None:
        dtype = self._settings.dtype
        if "images" in arrays:
            arrays["images"].append(images.numpy().astype(dtype))
        if "texts" in arrays:
            texts = self._embedder.texts([self._settings.prefix + text for text in captions])
            arrays["texts"].append(texts.numpy().astype(dtype))

    def _row(self, number: int, key: str, caption: str) -> dict[str, Any]:
        read = getattr(self._dataset, "metadata", None)
        try:
            url = (read(number) if read is not None else {}).get("url")
        except CorruptSampleError:
            url = None
        return {
            "image_path": key,
            "caption": caption,
            "key": key,
            "url": url if isinstance(url, str) else None,
            "sample": number,
        }

    def _save(self, number: int, arrays: dict[str, list[NDArray[Any]]], rows: list[dict[str, Any]]) -> list[Path]:
        files = []
        for name, parts in arrays.items():
            files.append(self._names.vectors(name, number))
            with atomic_path(files[-1]) as path, path.open("wb") as file:
                np.save(file, np.concatenate(parts))
        files.append(self._names.metadata(number))
        with atomic_path(files[-1]) as path:
            pq.write_table(pa.Table.from_pylist(rows, schema=_METADATA), path, compression="zstd")
        return files


def _plan(model: LoadedModel, dataset: Dataset, settings: EmbedSettings, out: Path) -> dict[str, Any]:
    return {
        "model": identity_of(model),
        "data": {
            "sha256": dataset.manifest_sha256,
            "split": dataset.split,
            "samples": len(dataset),
            "files": _files(dataset, settings, out),
        },
        "of": list(settings.of),
        "dtype": settings.dtype,
        "part": settings.part,
        "prefix": settings.prefix,
    }


def _files(dataset: Dataset, settings: EmbedSettings, out: Path) -> str | None:
    """Return what changes with the files; None of a dataset of ours, whose manifest has their checksums."""
    if isinstance(dataset, ShardedDataset) or "data" not in settings.source:
        return None
    images = settings.source.get("images")
    parts = [stats_digest(Path(each), but=out) for each in (settings.source["data"], images) if each is not None]
    return "-".join(parts)


def _summary(
    model: LoadedModel, plan: dict[str, Any], settings: EmbedSettings, records: Sequence[PartRecord], out: Path
) -> dict[str, Any]:
    first = next((entry for record in records for entry in record.files if entry.path.endswith(".npy")), None)
    return {
        **plan,
        "layout": "clip-retrieval",
        "rows": sum(record.rows for record in records),
        "dimension": 0 if first is None else int(np.load(out / first.path, mmap_mode="r").shape[1]),
        "unreadable": [key for record in records for key in record.unreadable],
        "about": {**model.about, "path": settings.model_path},
        "source": settings.source,
        "parts": [{"rows": record.rows, "files": [e.model_dump() for e in record.files]} for record in records],
        "versions": {name: version(name) for name in ("torch", "numpy", "pillow")},
    }
