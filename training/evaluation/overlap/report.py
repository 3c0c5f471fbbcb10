"""Read the builder's report of what a training dataset and an evaluation set have in common."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openwit.schemas.common.errors import DataError
from openwit.schemas.tables.overlap import OVERLAP


@dataclass(frozen=True)
class Pair:
    """A training image that shows what an evaluation image shows; see `OVERLAP`."""

    uid: str
    key: str | None
    file: str
    place: int | None
    url: str
    text: str
    variant: str
    distance: int


@dataclass(frozen=True)
class Reported:
    """An evaluation image of the report.

    Attributes:
        file, member, sha256: where it is, and the checksum of its bytes.
        pairs: training images that show the same, nearest first; none for a clean image.
    """

    file: str
    member: str
    sha256: str
    pairs: tuple[Pair, ...]

    def names(self) -> tuple[str, ...]:
        """Return the keys that a reader of labelled images may give it: its row, its path, or its name in a tar."""
        if not self.member:
            return (self.file, "/".join(self.file.split("/")[-2:]))
        row = self.member.partition(":")[0].partition("[")[0]
        if row.isdecimal():
            return (f"row {row}",)
        folder, slash, name = self.member.rpartition("/")
        return (self.member, f"{folder}{slash}{name.partition('.')[0]}")


def read_report(path: Path) -> list[Reported]:
    """Read a report, one entry per evaluation image, in its order.

    Raises:
        SchemaError: it is no such report.
        DataError: it names no evaluation image.
    """
    found: dict[tuple[str, str], tuple[str, list[Pair]]] = {}
    for row in OVERLAP.read(path).to_pylist():
        _, pairs = found.setdefault(
            (row["evaluation_file"], row["evaluation_member"]), (row["evaluation_sha256"], list[Pair]())
        )
        if row["sample_uid"] is not None:
            pairs.append(_pair(row))
    if not found:
        raise DataError(f"{path} names no evaluation image")
    return [
        Reported(file, member, checksum, tuple(sorted(pairs, key=lambda pair: pair.distance)))
        for (file, member), (checksum, pairs) in found.items()
    ]


def _pair(row: dict[str, Any]) -> Pair:
    return Pair(
        row["sample_uid"],
        row["sample_key"],
        row["sample_file"] or "",
        row["sample_place"],
        row["sample_url"] or "",
        row["sample_text"] or "",
        row["variant"] or "",
        row["distance"] or 0,
    )
