"""Plan the number of shards of a split, by samples or by bytes, without reading the images."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from openwit.pipeline.dataset.sample import sample_documents, sample_keys, sample_rows
from openwit.pipeline.dataset.tar_writer import BLOCK
from openwit.pipeline.execution.files import explained, open_unchanged, read_columns
from openwit.pipeline.stages.shard.order import shard_count
from openwit.schemas.tables.images import SURVIVORS

# Texts and JSON of this many samples of a file are the estimate for the whole file.
_MEASURED = 256


def plan_by_samples(survivors: Sequence[Path], per_shard: int) -> dict[str, int]:
    """Return the number of shards of each split, train first, for about `per_shard` samples each."""
    sizes: Counter[str] = Counter()
    for path in survivors:
        sizes.update(read_columns(path, ["split"]).column("split").to_pylist())
    return _counts(sizes, per_shard)


def plan_by_bytes(
    files: Sequence[tuple[Path, Path]], per_shard: int, types: Mapping[str, str] | None = None
) -> dict[str, int]:
    """Return the number of shards of each split, train first, for tars of about `per_shard` bytes each.

    An image counts as the mean of its row group in the Parquet footer; text, JSON, headers and padding as the mean of
    the first samples of its file.

    Args:
        files: survivors and images of the same name.
        types: of the columns that were kept of the inputs, by name.
    """
    sizes: Counter[str] = Counter()
    for survivors, images in files:
        table = SURVIVORS.read(survivors)
        if table.num_rows:
            around = _beside_the_image(table.slice(0, _MEASURED), types or {})
            rows = table.column("source_row").to_numpy()
            each = around + _mean_image_bytes(images, rows)
            splits = np.array(table.column("split").to_pylist(), object)
            for split in sorted(set(splits)):
                sizes[split] += int(each[splits == split].sum())
    return _counts(sizes, per_shard)


def _counts(sizes: Counter[str], per_shard: int) -> dict[str, int]:
    return {split: shard_count(n, per_shard) for split, n in sorted(sizes.items(), key=_train_first)}


def _train_first(item: tuple[str, int]) -> tuple[bool, str]:
    return item[0] != "train", item[0]


def _mean_image_bytes(images: Path, rows: np.ndarray) -> np.ndarray:
    """Return for each row of a file of IMAGES the mean size of the images in its row group: float64 (N,)."""
    with explained(images), open_unchanged(images) as file:
        metadata = pq.read_metadata(file)
    column = next(n for n in range(metadata.num_columns) if metadata.schema.column(n).path == "image")
    groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
    # Parquet's plain encoding puts a length of four bytes before each value.
    means = np.array([max(g.column(column).total_uncompressed_size / max(g.num_rows, 1) - 4, 0) for g in groups])
    ends = np.cumsum([g.num_rows for g in groups])
    found: np.ndarray = means[np.searchsorted(ends, rows, side="right")]
    return found


def _beside_the_image(survivors: pa.Table, types: Mapping[str, str]) -> float:
    """Return the bytes of a sample in the tar apart from the image's data, on average over some survivors."""
    # take, so that the rows are at the beginning of their buffers
    whole = survivors.take(pa.array(range(survivors.num_rows)))
    samples = sample_rows(sample_keys(0, 0, survivors.num_rows), whole, types)
    texts = [caption.encode() for caption in samples.column("caption").to_pylist()]
    total = sum(_padded(len(data)) for data in [*texts, *sample_documents(samples)])
    return float(total / survivors.num_rows + 3 * BLOCK + BLOCK / 2)


def _padded(size: int) -> int:
    return size + -size % BLOCK
