"""Keep five of the pairs that each stage of a build dropped for each reason, in a table small enough for the card.

Reading is bounded: of each stage a few files, and of these a number of rows, however large the build is.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from openwit.pipeline.execution.files import STAGE_MANIFEST, checked, file_entry
from openwit.pipeline.execution.stage import StageManifest
from openwit.pipeline.stages.base import StagePaths
from openwit.schemas.common.storage.cache import cached
from openwit.schemas.manifest import FileEntry
from openwit.schemas.tables.candidates import DROP_EXAMPLES, DROPS

DROP_EXAMPLES_FILE = "drops.parquet"
NOT_SHOWN = frozenset({"opted_out", "removed"})
"""Reasons of which no example is kept: somebody asked for the image not to be used."""
_A_REASON = 5
_FILES = 16
_ROWS = 200_000
_TRIED = 64
_LENGTHS = {"url": 500, "text": 300, "detail": 200}

Row = dict[str, Any]


def write_drop_examples(stages: Mapping[str, Path], target: Path) -> list[FileEntry]:
    """Write the examples of a build's stages to a dataset's folder; return what was written, if any.

    Args:
        stages: step to its folder, in the order of the build.
    """
    rows = [row for step, folder in stages.items() for row in examples_of(step, StagePaths(folder))]
    if not rows:
        return []
    DROP_EXAMPLES.write(target / DROP_EXAMPLES_FILE, pa.Table.from_pylist(rows, schema=DROP_EXAMPLES.arrow))
    return [file_entry(target, target / DROP_EXAMPLES_FILE)]


def examples_of(step: str, paths: StagePaths) -> list[Row]:
    """Return the examples of a step, by reason: those with the smallest hashes of URL and text among the rows read."""
    found: dict[str, dict[str, Row]] = {}
    for row in _rows(_spread(_drop_files(paths), _FILES)):
        of_reason = found.setdefault(row["reason"], {})
        order = xxhash.xxh3_64_hexdigest(f"{row['url']}\0{row['text']}".encode(errors="replace"))
        of_reason[order] = row
        if len(of_reason) > _A_REASON:
            del of_reason[max(of_reason)]
    return [
        {"step": step, "reason": reason, **{name: _cut(row[name], limit) for name, limit in _LENGTHS.items()}}
        for reason, rows in sorted(found.items())
        for _, row in sorted(rows.items())
    ]


def _drop_files(paths: StagePaths) -> list[Path]:
    """Return the files of a step's drops: those that its manifest lists, so that one that was lost is missed."""
    if not (paths.folder / STAGE_MANIFEST).exists():
        return paths.files(paths.drops)
    return StageManifest.load_any(paths.folder, []).paths(paths.folder, paths.drops.name)


def _rows(files: Sequence[Path]) -> Iterator[Row]:
    """Yield some rows of each reason of each row group, until enough rows have been looked at."""
    left = _ROWS
    for path in files:
        with pq.ParquetFile(cached(checked(path))) as file:
            if not set(DROPS.arrow.names) <= set(file.schema_arrow.names):
                return
            for group in range(file.num_row_groups):
                reasons = file.read_row_group(group, columns=["reason"]).column("reason").combine_chunks()
                chosen = _chosen(reasons)
                if chosen:
                    columns = ["reason", *_LENGTHS]
                    yield from file.read_row_group(group, columns=columns).take(pa.array(chosen)).to_pylist()
                left -= len(reasons)
                if left <= 0:
                    return


def _chosen(reasons: pa.Array) -> list[int]:
    """Return the places of at most `_TRIED` rows of each reason, evenly spread."""
    places: list[int] = []
    for reason in pc.unique(reasons).to_pylist():
        if reason not in NOT_SHOWN:
            places += _spread(pc.indices_nonzero(pc.equal(reasons, reason)).to_pylist(), _TRIED)
    return sorted(places)


def _spread(items: Sequence[Any], n: int) -> list[Any]:
    """Return at most `n` of the items, evenly spread, the first among them."""
    return [items[at * len(items) // n] for at in range(n)] if len(items) > n else list(items)


def _cut(value: str | None, limit: int) -> str | None:
    return value if value is None or len(value) <= limit else value[: limit - 1] + "…"
