"""Name and record the parts of embeddings: clip-retrieval's files, a record of each part, and a summary."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from openwit.schemas.common.atomic import atomic_write, sha256_of, size_and_sha256
from openwit.schemas.common.errors import DataError, RecipeError, StorageError
from openwit.schemas.common.sealed import DamagedError, seal, unseal
from openwit.schemas.manifest import FileEntry

SUMMARY = "embeddings.json"
_RECORDS = ".parts"
_PLAN = f"{_RECORDS}/plan.json"
VECTORS = {"images": "img_emb", "texts": "text_emb"}
"""Folders of the arrays by what is embedded; the files in them have the same name with a number."""
METADATA = "metadata"


class PartRecord(pydantic.BaseModel):
    """A finished part: its files, the number of rows, and the keys of samples that could not be read."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    number: int
    rows: int
    files: list[FileEntry]
    unreadable: list[str]


@dataclass(frozen=True)
class PartNames:
    """Names of the files of part `number` of `count`, padded as clip-retrieval pads them."""

    folder: Path
    count: int

    def _suffix(self, number: int) -> str:
        return str(number).zfill(int(math.log10(self.count)) + 1)

    def vectors(self, of: str, number: int) -> Path:
        """Return the path of an array, (rows, D)."""
        return self.folder / VECTORS[of] / f"{VECTORS[of]}_{self._suffix(number)}.npy"

    def metadata(self, number: int) -> Path:
        """Return the path of the table of what each row is."""
        return self.folder / METADATA / f"{METADATA}_{self._suffix(number)}.parquet"

    def record(self, number: int) -> Path:
        """Return the path of the record of a finished part."""
        return self.folder / _RECORDS / f"{self._suffix(number)}.json"


def claim(folder: Path, plan: Mapping[str, Any]) -> None:
    """Claim a folder for embeddings; a folder that was claimed for the same is resumed.

    Args:
        folder: may be missing or empty.
        plan: everything that decides the bytes, as JSON data.

    Raises:
        RecipeError: it holds embeddings of something else.
        StorageError: it holds files that are no embeddings, or is a file.
    """
    path = folder / _PLAN
    wanted = json.loads(json.dumps(plan, sort_keys=True))
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"{folder} is a file: give a folder")
    if path.exists():
        try:
            held = json.loads(unseal(path.read_bytes(), path))
        except DamagedError as error:
            raise StorageError(f"{error}: choose another folder") from None
        wrong = next((key for key in sorted({*held, *wanted}) if held.get(key) != wanted.get(key)), None)
        if wrong is not None:
            name, before, now = _difference(wrong, held.get(wrong), wanted.get(wrong))
            raise RecipeError(
                f"{folder} holds embeddings with another {name} ({_short(before)}, now {_short(now)}): choose another "
                "folder"
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise StorageError(
            f"{folder} is not empty and holds no embeddings of `wit-train embed`: choose another folder"
        )
    atomic_write(path, seal(json.dumps(wanted, sort_keys=True)))


def finished(names: PartNames, number: int, *, compare: bool = True) -> PartRecord | None:
    """Return the record of a part if its files are there as they were written.

    Args:
        names: of the files.
        number: of the part.
        compare: the checksums too, which reads the files.
    """
    path = names.record(number)
    try:
        record = PartRecord.model_validate_json(unseal(path.read_bytes(), path))
        for entry in record.files:
            file = names.folder / entry.path
            if file.stat().st_size != entry.bytes or (compare and sha256_of(file) != entry.sha256):
                return None
    except (OSError, DamagedError, pydantic.ValidationError):
        return None
    return record


def finish(names: PartNames, number: int, rows: int, files: Sequence[Path], unreadable: Sequence[str]) -> PartRecord:
    """Record a part whose files are written; the part is finished when its record is there."""
    entries = []
    for file in files:
        size, digest = size_and_sha256(file)
        entries.append(FileEntry(path=file.relative_to(names.folder).as_posix(), bytes=size, sha256=digest))
    record = PartRecord(number=number, rows=rows, files=entries, unreadable=list(unreadable))
    atomic_write(names.record(number), seal(record.model_dump_json()))
    return record


def read_summary(folder: Path) -> dict[str, Any]:
    """Return the summary of finished embeddings.

    Raises:
        DataError: there is none, or it is damaged.
    """
    path = folder / SUMMARY
    if not path.is_file():
        half = (folder / _PLAN).is_file()
        todo = "are not complete: run the same `wit-train embed` again" if half else "are no embeddings"
        raise DataError(f"the files of {folder} {todo} ({SUMMARY} is missing)")
    found: dict[str, Any] = json.loads(unseal(path.read_bytes(), path))
    return found


def write_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write the summary, whole or not at all."""
    atomic_write(folder / SUMMARY, seal(json.dumps(summary, indent=1, ensure_ascii=False)))


def _difference(name: str, before: Any, now: Any) -> tuple[str, Any, Any]:
    """Return the innermost key in which two values differ, and both."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return name, before, now
    key = next(key for key in sorted({*before, *now}) if before.get(key) != now.get(key))
    return _difference(f"{name}.{key}", before.get(key), now.get(key))


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
