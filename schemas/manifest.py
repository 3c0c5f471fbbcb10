"""The dataset manifest: what a dataset folder holds, how it came to be, and the sums that let anyone check it.

Layout of a dataset folder::

    manifest.json
    card.html  card.json
    queries.parquet            openwit.schemas.tables.queries.QUERY_COUNTS: the query list and what each query drew
    train/00000.tar            WebDataset: KEY.jpg KEY.txt KEY.json, members of a sample adjacent
    train/00000.parquet        openwit.schemas.tables.samples.SAMPLES
    train/00000.idx.arrow      openwit.schemas.tables.samples.SHARD_INDEX (Arrow IPC file)
    train/00000_stats.json     img2dataset's per-shard statistics
    duplicates.parquet         openwit.schemas.tables.images.DUPLICATE_EXAMPLES: some of the copies that were taken out
    val/00000.tar …            one folder a split
"""

from pathlib import Path
from typing import Any

import pydantic

from openwit.schemas.common.atomic import atomic_write
from openwit.schemas.common.errors import OpenWITError

MANIFEST_NAME = "manifest.json"
MANIFEST_VERSION = 1


class _Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Model):
    """One file of the dataset, its path relative to the dataset folder."""

    path: str
    bytes: int
    sha256: str


class ShardEntry(_Model):
    """One shard: a tar and the files that stand beside it."""

    name: str
    split: str
    samples: int
    pairs: int
    tar: FileEntry
    metadata: FileEntry
    index: FileEntry
    stats: FileEntry


class FunnelStep(_Model):
    """Rows through one stage. `rows_in == rows_out + sum(reasons.values())`, checked when it is made."""

    stage: str
    unit: str
    rows_in: int
    rows_out: int
    reasons: dict[str, int] = {}

    @pydantic.model_validator(mode="after")
    def _balanced(self) -> "FunnelStep":
        lost = sum(self.reasons.values())
        if self.rows_in != self.rows_out + lost:
            raise ValueError(
                f"stage {self.stage}: {self.rows_in} {self.unit} in, but {self.rows_out} out and {lost} with a reason"
            )
        return self


class Removal(_Model):
    """What `wit remove` took out after the fact; the list itself is not kept, since it names what must go.

    Attributes:
        list_sha256: of the list as it was read, unpacked.
        entries: lines of the list that name something.
        samples, pairs: that went.
    """

    list_sha256: str
    entries: int
    samples: int
    pairs: int


class DatasetManifest(_Model):
    """What `manifest.json` holds. Holds no times: the same inputs and recipe give the same bytes.

    Attributes:
        version: of this layout.
        name: of the dataset.
        description: in a sentence, for the card.
        recipe: settings of each stage, by its name.
        tools: versions of what the bytes depend on.
        funnel: every stage's rows in, rows out and reasons, in order.
        notes: further counts of each stage, by its name.
        tables: files that are of no shard, with their sums.
        removals: what was taken out after the build, in order; the funnel's last lines count it.
        shards: the files of the dataset with their sums.
    """

    version: int = MANIFEST_VERSION
    name: str
    description: str = ""
    recipe: dict[str, Any]
    tools: dict[str, str]
    funnel: list[FunnelStep]
    notes: dict[str, dict[str, Any]] = {}
    tables: list[FileEntry] = []
    removals: list[Removal] = []
    shards: list[ShardEntry]

    def splits(self) -> list[str]:
        """Names of the splits, train first."""
        return sorted({s.split for s in self.shards}, key=lambda name: (name != "train", name))

    def shards_of(self, split: str) -> list[ShardEntry]:
        """Shards of a split in order of name.

        Raises:
            OpenWITError: the dataset has no such split.
        """
        shards = sorted((s for s in self.shards if s.split == split), key=lambda s: s.name)
        if not shards:
            known = ", ".join(self.splits()) or "none"
            raise OpenWITError(f"dataset {self.name!r} has no split {split!r} (it has: {known})")
        return shards

    def samples(self, split: str) -> int:
        """Number of samples in a split."""
        return sum(s.samples for s in self.shards_of(split))

    def save(self, folder: Path) -> None:
        """Writes `manifest.json` into the dataset folder, whole or not at all."""
        atomic_write(folder / MANIFEST_NAME, self.to_json())

    def to_json(self) -> str:
        """The text of `manifest.json`."""
        return self.model_dump_json(indent=1) + "\n"

    @classmethod
    def load(cls, folder: Path) -> "DatasetManifest":
        """Reads the manifest of a dataset folder.

        Raises:
            OpenWITError: there is none, or it is not a manifest of this version.
        """
        path = folder / MANIFEST_NAME
        try:
            text = path.read_text()
        except (FileNotFoundError, NotADirectoryError):
            raise OpenWITError(
                f"{folder} is not a dataset: {MANIFEST_NAME} is missing (build it with `wit build`)"
            ) from None
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str | bytes, where: str) -> "DatasetManifest":
        """Reads the text of a manifest.

        Args:
            where: the file, for the message.

        Raises:
            OpenWITError: it is not a manifest of this version.
        """
        try:
            return cls.model_validate_json(text)
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"]) or "the file"
            raise OpenWITError(
                f"{where} is not a manifest of version {MANIFEST_VERSION}: {key}: {first['msg']}"
            ) from error
