"""Define the dataset manifest: the files of a dataset with their checksums, its recipe, and the funnel.

Layout of a dataset folder::

    manifest.json
    card.html  card.json  README.md  croissant.json  card.sha256
    queries.parquet            openwit.schemas.tables.queries.QUERY_COUNTS: the query list with counts
    train/00000.tar            WebDataset: KEY.jpg KEY.txt KEY.json, members of a sample adjacent
    train/00000.parquet        openwit.schemas.tables.samples.SAMPLES
    train/00000.idx.arrow      openwit.schemas.tables.samples.SHARD_INDEX (Arrow IPC file)
    train/00000_stats.json     img2dataset's per-shard statistics
    train/00000/KEY.jpg …      in place of the tar in a dataset of the format files
    train/00000.parquet        in one of the format parquet also the columns jpg, txt and json, in place of the tar
    duplicates.parquet         openwit.schemas.tables.images.DUPLICATE_EXAMPLES: some of the dropped duplicates
    drops.parquet              openwit.schemas.tables.candidates.DROP_EXAMPLES: some of the dropped pairs
    val/00000.tar …            one folder per split
"""

from pathlib import Path
from typing import Any, Literal

import pydantic

from openwit.schemas.common.atomic import atomic_write, sha256_of
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.matching_paths import refuse_special

MANIFEST_NAME = "manifest.json"
MANIFEST_VERSION = 1

ShardFormat = Literal["webdataset", "files", "parquet"]
"""How the samples of a shard are stored: the names are img2dataset's."""


class _Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Model):
    """One file of the dataset, its path relative to the dataset folder."""

    path: str
    bytes: int
    sha256: str


class ShardEntry(_Model):
    """One shard: a tar and its sidecar files.

    Attributes:
        tar: what holds the samples. In the format files it is a folder: `bytes` are those of all its files, and
            `sha256` is that of the lines that sha256sum writes for them, in order of their names. In the format
            parquet it is the same file as `metadata`.
    """

    name: str
    split: str
    samples: int
    pairs: int
    tar: FileEntry
    metadata: FileEntry
    index: FileEntry
    stats: FileEntry

    @property
    def format(self) -> ShardFormat:
        """Return how the samples are stored."""
        if self.tar.path == self.metadata.path:
            return "parquet"
        return "webdataset" if self.tar.path.endswith(".tar") else "files"

    def files(self) -> list[FileEntry]:
        """Return the entries of the shard, each once."""
        return list({entry.path: entry for entry in (self.tar, self.metadata, self.index, self.stats)}.values())


class FunnelStep(_Model):
    """Rows through one stage. `rows_in == rows_out + sum(reasons.values())`, checked on construction."""

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
                f"stage {self.stage}: {self.rows_in} {self.unit} in, but {self.rows_out} out and {lost} dropped"
            )
        return self


class Removal(_Model):
    """One removal from the finished dataset; the list itself is not kept, since it names what must not be kept.

    Attributes:
        list_sha256: of the list as it was read, decompressed.
        entries: number of entries in the list.
        samples, pairs: number of removed ones.
        shards: number of removed samples by the path of their tar; empty in manifests of older versions.
    """

    list_sha256: str
    entries: int
    samples: int
    pairs: int
    shards: dict[str, int] = {}


class DatasetManifest(_Model):
    """The content of `manifest.json`. It has no times: the same inputs and recipe give the same bytes.

    Attributes:
        version: of this layout.
        name: of the dataset.
        description: in a sentence, for the card.
        recipe: settings of each step, by its name, in the order in which they ran.
        steps: of steps that are not named as their stage, or whose inputs the recipe names: `stage` and `from`.
        tools: versions of the packages that the bytes depend on.
        funnel: rows in, rows out and drop reasons of every stage, in order.
        notes: further counts of each stage, by its name.
        tables: files that do not belong to a shard, with checksums.
        removals: removals after the build, in order; the funnel's last lines count them.
        shards: the files of the shards, with checksums.
    """

    version: int = MANIFEST_VERSION
    name: str
    description: str = ""
    recipe: dict[str, Any]
    steps: dict[str, dict[str, Any]] = {}
    tools: dict[str, str]
    funnel: list[FunnelStep]
    notes: dict[str, dict[str, Any]] = {}
    tables: list[FileEntry] = []
    removals: list[Removal] = []
    shards: list[ShardEntry]

    def step_of(self, stage: str) -> str:
        """Return the name of the step that ran a stage: the stage's own name unless the recipe gave it another."""
        renamed = [name for name, step in self.steps.items() if step.get("stage") == stage]
        return stage if stage in self.recipe or not renamed else renamed[-1]

    def formats(self) -> list[ShardFormat]:
        """Return the formats of the shards, each once."""
        return sorted({shard.format for shard in self.shards})

    def splits(self) -> list[str]:
        """Return the names of the splits, train first."""
        return sorted({s.split for s in self.shards}, key=lambda name: (name != "train", name))

    def shards_of(self, split: str) -> list[ShardEntry]:
        """Return the shards of a split in order of name.

        Raises:
            DataError: the dataset has no such split.
        """
        shards = sorted((s for s in self.shards if s.split == split), key=lambda s: s.name)
        if not shards:
            known = ", ".join(self.splits()) or "none"
            raise DataError(f"dataset {self.name!r} has no split {split!r} (it has: {known})")
        return shards

    def samples(self, split: str) -> int:
        """Return the number of samples in a split."""
        return sum(s.samples for s in self.shards_of(split))

    def save(self, folder: Path) -> None:
        """Write `manifest.json` into the dataset folder, whole or not at all."""
        atomic_write(folder / MANIFEST_NAME, self.to_json())

    def to_json(self) -> str:
        """Return the text of `manifest.json`."""
        return self.model_dump_json(indent=1) + "\n"

    @classmethod
    def load(cls, folder: Path) -> "DatasetManifest":
        """Read the manifest of a dataset folder.

        Raises:
            DataError: it does not exist, or is not a manifest of this version.
        """
        path = folder / MANIFEST_NAME
        refuse_special(path, str(path))
        try:
            text = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise DataError(f"{folder} is not a dataset: {MANIFEST_NAME} is missing") from None
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str | bytes, where: str) -> "DatasetManifest":
        """Parse the text of a manifest.

        Args:
            where: the file, for the message.

        Raises:
            DataError: it is not a manifest of this version.
        """
        try:
            return cls.model_validate_json(text)
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"]) or "the file"
            raise DataError(
                f"{where} is not a manifest of version {MANIFEST_VERSION}: {key}: {first['msg']}"
            ) from error


def check_sum(folder: Path, entry: FileEntry) -> Path:
    """Return the path of a small file of a dataset after comparing its bytes with the manifest.

    Tars are not compared, which would read the whole dataset at every start: `wit verify` does.

    Raises:
        DataError: the file is missing or was changed since.
    """
    path = folder / entry.path
    try:
        same = sha256_of(path) == entry.sha256
    except FileNotFoundError:
        raise DataError(f"{path} is missing, but the manifest lists it: rebuild or copy the dataset again") from None
    if not same:
        raise DataError(f"{path} has changed since it was written: copy or rebuild the dataset, and run `wit verify`")
    return path
