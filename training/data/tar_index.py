"""Open plain WebDataset tars on a local disk, without an index: one scan of their headers gives random access.

The output of img2dataset or webdataset's writer (KEY.jpg KEY.txt KEY.json) then has everything that an OpenWIT dataset
has: a full shuffle, each sample once per epoch, exact resume. Compressed tars are unpacked first.
"""

import glob
import hashlib
import mmap
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from openwit.schemas.common.decompress import TAR_ENDINGS
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.matching_paths import matching_paths, refuse_special
from openwit.schemas.common.tar_members import LINK, members
from openwit.schemas.tables.samples import SHARD_INDEX
from openwit.training.data.shard_file import LocalTar
from openwit.training.data.sharded import Shard, Shards
from openwit.training.data.tar_samples import Gathered, Gathering
from openwit.training.data.unpack import unpack_tars

_MEMBERS = ("image", "text", "json")
Span = tuple[int, int]
"""Offset and size of a member's data."""


@dataclass
class ScannedTar:
    """A tar's index, and what could not be used: counts of `no image`, `no text` and `damaged tar`."""

    index: pa.Table
    reasons: Counter[str] = field(default_factory=Counter)


def scan_tar(path: Path) -> ScannedTar:
    """Index a tar (schemas.tables.samples.SHARD_INDEX) by its headers; a member that a sample lacks has size 0.

    Takes 15 µs per sample if the tar is in memory; otherwise one page per member is read from the disk.
    """
    columns: dict[str, list[Any]] = {column.name: [] for column in SHARD_INDEX.columns}
    reasons: Counter[str] = Counter()

    def count(reason: str, _: str) -> None:
        reasons[reason] += 1

    gathering: Gathering[Span] = Gathering(count, apart=True)
    with path.open("rb") as file:
        empty = not path.stat().st_size
        archive = b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    for sample in gather_spans(archive, gathering, count):
        columns["key"].append(sample.key)
        for member in _MEMBERS:
            offset, size = sample.parts.get(member, (0, 0))
            columns[f"{member}_offset"].append(offset)
            columns[f"{member}_size"].append(size)
    return ScannedTar(SHARD_INDEX.table(dict(columns)), reasons)


def gather_spans(
    archive: mmap.mmap | bytes, gathering: Gathering[Span], note: Callable[[str, str], None]
) -> Iterable[Gathered[Span]]:
    """Yield the samples of a tar in memory; a link is what its target is, where the tar holds it.

    Args:
        archive: the tar.
        gathering: collects the samples.
        note: receives reasons, with what they are about.
    """
    links: dict[str, str] = {}
    add = gathering.add
    for name, offset, size, target, _ in members(archive, note):
        if target:
            links[name] = target
        elif done := add(name, (offset, size), not size):
            yield from done
    if links:
        wanted = set(links.values())
        held = {found.name: (found.offset, found.size) for found in members(archive) if found.name in wanted}
        for name, target in links.items():
            if target in held:
                yield from gathering.add(name, held[target])
            elif gathering.kind(name) is not None:
                note(LINK, name)
    yield from gathering.end()


class TarDataset(Shards):
    """Samples of local tars without an index. Safe to read from several threads.

    Args:
        paths: the tars, in the order in which samples are numbered.
        cache: folder to which compressed tars are unpacked; None for the default one (`unpack.default_folder`).
        cache_bytes: upper limit of what is unpacked.
        report: receives a sentence on what is unpacked.

    Raises:
        DataError: a tar is missing, or they contain no sample.
        RecipeError: the unpacked tars are larger than the limit.
    """

    split = "tars"

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        cache: Path | None = None,
        cache_bytes: int = 100_000_000_000,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        for path in paths:
            refuse_special(path, f"data.tars: {path}")
            if not path.is_file():
                raise DataError(f"{path} of data.tars does not exist")
        self.reasons: Counter[str] = Counter()

        def damaged(_reason: str, _about: str) -> None:
            self.reasons["damaged compression"] += 1

        plain = unpack_tars(paths, cache, max_bytes=cache_bytes, note=damaged, report=report)
        with ThreadPoolExecutor(4) as pool:
            scanned = list(pool.map(scan_tar, plain))
        for one in scanned:
            self.reasons += one.reasons
        self.folder = paths[0].parent
        self.name = self.folder.name
        digest = hashlib.sha256()
        for path, one in zip(paths, scanned, strict=True):
            digest.update(f"{path.name} {path.stat().st_size} {one.index.num_rows}\n".encode())
            digest.update("\n".join(one.index["key"].to_pylist()).encode())
        self.manifest_sha256 = digest.hexdigest()
        used = [(path, one.index) for path, one in zip(plain, scanned, strict=True) if one.index.num_rows]
        super().__init__(
            [Shard(LocalTar(path).file, index) for path, index in used], [index.num_rows for _, index in used]
        )
        if not len(self):
            raise DataError(
                f"the tars of data.tars hold no samples of an image and a text (first: {paths[0]}){self._aside()}: "
                "a sample is KEY.jpg with KEY.txt or KEY.json"
            )

    def describe(self) -> str:
        """Return what was found and what was skipped, in one line."""
        return f"indexed {len(self)} samples of {len(self._shards)} tars{self._aside()}"

    def _aside(self) -> str:
        aside = ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.reasons.items()))
        return f"; left aside: {aside}" if aside else ""


def tars_in(folder: Path) -> list[Path]:
    """Return the tars of a folder, compressed or not, sorted; without the hidden files that a Mac puts beside them."""
    return sorted(path for path in folder.iterdir() if _is_tar(path))


def _is_tar(path: Path) -> bool:
    return path.name.lower().endswith(TAR_ENDINGS) and not path.name.startswith(".")


def local_tars(patterns: Sequence[str]) -> list[Path]:
    """Return the files that paths, folders, globs and brace patterns (`{00000..00041}.tar`) name, sorted within each.

    A path that exists is itself before it is a pattern.

    Raises:
        DataError: a pattern matches nothing, or a named pipe, a socket or a device.
    """
    from webdataset.shardlists import expand_urls

    paths: list[Path] = []
    for pattern in patterns:
        for name in [pattern] if Path(pattern).exists() else expand_urls(pattern):
            matches = [Path(match) for match in matching_paths(name, "data.tars")]
            if Path(name).is_dir():
                here = tars_in(Path(name)) or sorted(path for path in Path(name).rglob("*") if _is_tar(path))
            elif glob.has_magic(name) and not Path(name).exists():
                here = [each for match in matches for each in (tars_in(match) if match.is_dir() else [match])]
            else:
                here = [Path(name)]
            if not here:
                raise DataError(f"data.tars: {name} means no file" + _other_files(Path(name)))
            paths += here
    return paths


def _other_files(folder: Path) -> str:
    if not folder.is_dir():
        return ""
    held = sum(1 for _ in folder.iterdir())
    return f": the folder holds {held:,} other files and no tar"
