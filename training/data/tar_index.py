"""Open plain WebDataset tars on a local disk, without an index: one scan of their headers gives random access.

The output of img2dataset or webdataset's writer (KEY.jpg KEY.txt KEY.json, members of a sample adjacent) then has
everything that an OpenWIT dataset has: a full shuffle, each sample once per epoch, exact resume.
"""

import glob
import hashlib
import mmap
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from openwit.schemas.common.errors import DataError
from openwit.schemas.tables.samples import SHARD_INDEX
from openwit.training.data.sharded import Shard, Shards

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp")
_BLOCK = 512
_MEMBERS = ("image", "text", "json")


class Member(NamedTuple):
    """A regular file of an archive: offset and size of its data."""

    name: str
    offset: int
    size: int


class DamagedTarError(Exception):
    """There is no valid header where one should be, or the archive ends inside a member."""


def members(archive: mmap.mmap | bytes) -> Iterator[Member]:
    """Yield the regular files of a tar, in order: USTAR, GNU (long names, large sizes) and PAX (path, size).

    Raises:
        DamagedTarError: it cannot be read further; members before that were yielded.
    """
    position, length = 0, len(archive)
    name: str | None = None
    size: int | None = None
    while position + _BLOCK <= length:
        header = archive[position : position + _BLOCK]
        if header[0] == 0:
            return
        try:
            own = _number(header[124:136])
        except ValueError:
            raise DamagedTarError(f"no member header at byte {position:,}") from None
        kind = header[156:157]
        data = position + _BLOCK
        held = own if size is None or kind in b"xgL" else size
        if data + held > length:
            raise DamagedTarError(f"it ends inside the member at byte {position:,}")
        if kind == b"x":
            records = _pax(archive[data : data + held])
            name = records.get("path", name)
            size = int(records["size"]) if "size" in records else size
        elif kind == b"L":
            name = archive[data : data + held].rstrip(b"\0").decode("utf-8", "replace")
        else:
            if kind in (b"0", b"\0"):
                yield Member(_name(header) if name is None else name, data, held)
            if kind != b"g":
                name = size = None
        position = data + held + -held % _BLOCK


def _number(raw: bytes) -> int:
    if raw[0] & 0x80:
        return int.from_bytes(raw[1:], "big")
    return int(raw.strip(b" \0") or b"0", 8)


def _name(header: bytes) -> str:
    name = header[:100].split(b"\0", 1)[0]
    if header[257:263] == b"ustar\0" and header[345]:
        name = header[345:500].split(b"\0", 1)[0] + b"/" + name
    return name.decode("utf-8", "replace")


def _pax(raw: bytes) -> dict[str, str]:
    """Parse the records of a PAX header: `LENGTH KEY=VALUE` and a line feed (POSIX.1-2001)."""
    records: dict[str, str] = {}
    while raw:
        length, _, _ = raw.partition(b" ")
        if not length.isdigit() or int(length) <= len(length):
            break
        key, _, value = raw[len(length) + 1 : int(length)].rstrip(b"\n").partition(b"=")
        records[key.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
        raw = raw[int(length) :]
    return records


@dataclass
class ScannedTar:
    """A tar's index, and what could not be used: counts of `no image`, `no text` and `damaged tar`."""

    index: pa.Table
    reasons: Counter[str] = field(default_factory=Counter)


def scan_tar(path: Path) -> ScannedTar:
    """Index a tar (schemas.tables.samples.SHARD_INDEX) by its headers; a member that a sample lacks has size 0.

    Samples are runs of members of the same name up to the first dot. Takes 15 µs per sample if the tar is in memory;
    otherwise one page per member is read from the disk.
    """
    columns: dict[str, list[Any]] = {column.name: [] for column in SHARD_INDEX.columns}
    reasons: Counter[str] = Counter()
    current: str | None = None
    found: dict[str, tuple[int, int]] = {}

    def close() -> None:
        if current is None:
            return
        if "image" not in found:
            reasons["no image"] += 1
        elif "text" not in found and "json" not in found:
            reasons["no text"] += 1
        else:
            columns["key"].append(current)
            for member in _MEMBERS:
                offset, size = found.get(member, (0, 0))
                columns[f"{member}_offset"].append(offset)
                columns[f"{member}_size"].append(size)

    with path.open("rb") as file:
        empty = not path.stat().st_size
        archive = b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            for member in members(archive):
                key, suffix = split_name(member.name)
                kind = "image" if suffix in IMAGE_SUFFIXES else {"txt": "text", "json": "json"}.get(suffix)
                if key != current:
                    close()
                    current, found = key, {}
                if kind is not None and kind not in found:
                    found[kind] = member.offset, member.size
        except DamagedTarError:
            reasons["damaged tar"] += 1
        finally:
            close()
    return ScannedTar(SHARD_INDEX.table(dict(columns)), reasons)


def split_name(name: str) -> tuple[str, str]:
    """Split into key and suffix as webdataset does: at the first dot of the last part, the suffix in lower case."""
    folder, slash, last = name.rpartition("/")
    key, _, suffix = last.partition(".")
    return f"{folder}{slash}{key}", suffix.lower()


class TarDataset(Shards):
    """Samples of local tars without an index. Safe to read from several threads.

    Args:
        paths: the tars, in the order in which samples are numbered.

    Raises:
        DataError: a tar is missing, or they contain no sample.
    """

    split = "tars"

    def __init__(self, paths: Sequence[Path]) -> None:
        for path in paths:
            if not path.is_file():
                raise DataError(f"{path} of data.tars does not exist")
        with ThreadPoolExecutor(4) as pool:
            scanned = list(pool.map(scan_tar, paths))
        self.reasons: Counter[str] = sum((one.reasons for one in scanned), Counter())
        self.folder = paths[0].parent
        self.name = self.folder.name
        digest = hashlib.sha256()
        for path, one in zip(paths, scanned, strict=True):
            digest.update(f"{path.name} {path.stat().st_size} {one.index.num_rows}\n".encode())
            digest.update("\n".join(one.index["key"].to_pylist()).encode())
        self.manifest_sha256 = digest.hexdigest()
        used = [(path, one.index) for path, one in zip(paths, scanned, strict=True) if one.index.num_rows]
        super().__init__([Shard(*one) for one in used], [index.num_rows for _, index in used])
        if not len(self):
            raise DataError(f"the tars of data.tars hold no samples of an image and a text (first: {paths[0]})")

    def describe(self) -> str:
        """Return what was found and what was skipped, in one line."""
        aside = ", ".join(f"{count} {reason}" for reason, count in sorted(self.reasons.items()))
        return f"indexed {len(self)} samples of {len(self._shards)} tars" + (f"; left aside: {aside}" if aside else "")


def local_tars(patterns: Sequence[str]) -> list[Path]:
    """Return the files that folders, globs and brace patterns (`{00000..00041}.tar`) match, sorted within each.

    Raises:
        DataError: a pattern matches nothing.
    """
    from webdataset.shardlists import expand_urls

    paths: list[Path] = []
    for pattern in patterns:
        for name in expand_urls(pattern):
            if Path(name).is_dir():
                here = sorted(Path(name).glob("*.tar"))
            elif glob.has_magic(name):
                here = sorted(Path(match) for match in glob.glob(name, recursive=True))
            else:
                here = [Path(name)]
            if not here:
                raise DataError(f"data.tars: {name} means no file")
            paths += here
    return paths
