"""Write the report of what a dataset and evaluation images have in common, from the files of a deduplication."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from openwit.pipeline.common.column_values import KEY, UID, row_of
from openwit.pipeline.decontamination.overlap import Evaluation, evaluation_table, overlap_table
from openwit.pipeline.execution.files import checked, read_columns
from openwit.pipeline.execution.stage import StageManifest
from openwit.pipeline.rewriting.sources import Sources
from openwit.pipeline.stages.base import IMAGES, StagePaths
from openwit.pipeline.stages.dedup import DedupPaths
from openwit.pipeline.stages.dedup.reasons import EVALUATION_IMAGE
from openwit.schemas.tables.images import COPIES
from openwit.schemas.tables.overlap import OVERLAP

_COLUMNS = ["url", "phash", "sha256", "pixels_hash", "pairs"]
_TEXT = 500


def write_overlap(dedup: Path, target: Path, sources: Sources | None) -> dict[str, int]:
    """Write a report; return how many evaluation images there are, how many overlap, and how many pairs were found.

    Args:
        dedup: folder of a finished deduplication that excluded evaluation images.
        target: file to write.
        sources: the finished datasets that were read; None if other inputs were.
    """
    manifest = StageManifest.load(dedup, "dedup")
    evaluation = Evaluation(
        evaluation_table(sorted(DedupPaths(dedup).evaluation.glob("[!.]*.parquet"))),
        int(manifest.settings["exclude_distance"]),
    )
    images = dedup / manifest.extra["images"]
    table = overlap_table(evaluation, _found(dedup, images, _Samples(sources)))
    OVERLAP.write(target, table)
    pairs = table.filter(pc.is_valid(table.column("sample_uid")))
    overlapping = pairs.select(["evaluation_file", "evaluation_member"]).group_by(
        ["evaluation_file", "evaluation_member"]
    )
    return {
        "evaluation_images": evaluation.table.num_rows,
        "overlap": overlapping.aggregate([]).num_rows,
        "pairs": pairs.num_rows,
        "samples": len(pc.unique(pairs.column("sample_url"))),
    }


def _found(dedup: Path, fetched: Path, samples: "_Samples") -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield the images that are copies of evaluation images, each with what the report says of it."""
    for path in sorted(DedupPaths(dedup).copies.glob("[!.]*.parquet")):
        copies = COPIES.read(checked(path))
        rows = copies.filter(pc.equal(copies.column("reason"), str(EVALUATION_IMAGE))).column("row")
        if len(rows):
            table = read_columns(StagePaths(fetched).output(IMAGES) / path.name, _COLUMNS).take(rows)
            for image in table.to_pylist():
                for sample in samples.of(image):
                    yield image, sample


class _Samples:
    """Find the samples of images by their places."""

    def __init__(self, sources: Sources | None) -> None:
        self._sources = sources
        shards = [] if sources is None else sources.shards
        self._shards = {sources.name_of(shard): shard for shard in shards} if sources is not None else {}
        self._known: tuple[str, dict[int, tuple[str, str, str]]] = ("", {})

    def of(self, image: dict[str, Any]) -> list[dict[str, Any]]:
        """Return what the report says of each sample that holds an image."""
        places: dict[tuple[str, int], dict[str, Any]] = {}
        for pair in image["pairs"]:
            places.setdefault((pair["archive"], pair["record_offset"]), pair)
        found = []
        for (archive, offset), pair in places.items():
            uid, key, url = self._identity(archive, offset, pair)
            found.append(
                {
                    "sample_uid": uid,
                    "sample_key": key,
                    "sample_file": archive,
                    "sample_place": offset,
                    "sample_url": url or image["url"],
                    "sample_text": pair["text"][:_TEXT],
                }
            )
        return found

    def _identity(self, archive: str, offset: int, pair: dict[str, Any]) -> tuple[str, str | None, str]:
        kept = row_of(pair["columns"])
        carried = str(kept.get(UID) or pair["pair_id"].hex()), kept.get(KEY), ""
        shard = self._shards.get(archive)
        if shard is None or self._sources is None:
            return carried
        if self._known[0] != archive:
            samples = self._sources.samples(shard)
            named = zip(*(samples.column(name).to_pylist() for name in ("uid", "key", "url")), strict=True)
            self._known = archive, dict(zip(self._sources.places(shard, samples), named, strict=True))
        return self._known[1].get(offset, carried)
