"""Choose slices of the inputs: the beginnings of a few files of each kind, drawn by hash of their names."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import xxhash

from openwit.pipeline.common.ranges import gives_ranges, open_ranges, remote_size
from openwit.pipeline.plan.settings import Assumptions
from openwit.pipeline.readers.crawl.archive_parts import why_not_split
from openwit.pipeline.readers.custom import reader_of
from openwit.pipeline.readers.samples.datasets import is_shard
from openwit.pipeline.readers.samples.folders import listing_of
from openwit.pipeline.readers.tables.files import format_of
from openwit.pipeline.readers.tables.parquet_tables import parquet_sizes
from openwit.pipeline.readers.tables.table_ranges import RowRange
from openwit.pipeline.readers.url_lists import is_plain
from openwit.pipeline.stages.candidates.parts import InputPart
from openwit.pipeline.stages.candidates.settings import CandidateSettings
from openwit.pipeline.stages.candidates.sources import SAMPLE_KINDS, InputKind, kind_of
from openwit.schemas.common.decompress import compression_of, plain_chunks
from openwit.schemas.common.storage.remote import is_remote

# Sizes of more remote files are estimated from these.
_ASKED = 32
# Of a compressed text table; what is packed very well would else fill the memory.
_PLAIN_BYTES = 64 << 20
# A file that cannot be cut is read whole up to this many times its share of the slice.
_WHOLE = 4


@dataclass(frozen=True)
class Slice:
    """A part of an input.

    Attributes:
        kind: of the input: what is extrapolated together.
        part: as the stage candidates reads it.
        share: of the file that it is, in (0, 1].
        file_bytes: of the whole file.
    """

    kind: str
    part: InputPart
    share: float
    file_bytes: int

    @property
    def bytes(self) -> float:
        """Return the bytes of the file that the slice stands for."""
        return self.share * self.file_bytes


@dataclass(frozen=True)
class Stratum:
    """The inputs of one kind.

    Attributes:
        kind: format and compression, or the reader of your own.
        files: how many.
        bytes: of all, some of them estimated.
        chosen: by hash of their names, with their sizes.
    """

    kind: str
    files: int
    bytes: int
    chosen: list[tuple[str, int]]


def strata_of(inputs: Sequence[str], settings: CandidateSettings, assumptions: Assumptions) -> list[Stratum]:
    """Return the inputs by kind, with the files that slices are taken from."""
    by_kind: dict[str, list[str]] = {}
    for name in inputs:
        by_kind.setdefault(_kind(name, settings), []).append(name)
    found = []
    for kind, names in sorted(by_kind.items()):
        drawn = sorted(names, key=lambda name: (xxhash.xxh3_64_intdigest(Path(name).name.encode()), name))
        sizes = dict(_sizes(drawn))
        known = [size for size in sizes.values() if size]
        mean = sum(known) / max(len(known), 1)
        total = sum(known) + mean * (len(names) - len(sizes))
        chosen = [(name, sizes[name]) for name in drawn if sizes.get(name)][: assumptions.slice_files]
        found.append(Stratum(kind, len(names), round(total), chosen))
    return found


def _kind(name: str, settings: CandidateSettings) -> str:
    """Return the kind of an input: files of one kind hold about as much per byte."""
    own = reader_of(name, settings.readers)
    if own is not None:
        return f"reader {own.name}"
    kind = kind_of(name)
    if kind is InputKind.TABLE:
        return " ".join(filter(None, (kind, *format_of(name))))
    return kind.value if kind is InputKind.IMAGES else f"{kind} {Path(name).suffix.lower()}"


def _sizes(names: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Yield names with their sizes: of all local files, of the first remote ones; 0 for one that cannot be seen."""
    asked = 0
    for name in names:
        if is_remote(name):
            asked += 1
            if asked <= _ASKED:
                yield name, remote_size(name) or 0
        elif name.endswith("/") and Path(name).is_dir():
            yield name, sum(entry.stat().st_size for entry in os.scandir(name) if entry.is_file())
        elif Path(name).is_file():
            yield name, Path(name).stat().st_size


def slices_of(
    stratum: Stratum, settings: CandidateSettings, assumptions: Assumptions, *, budget: int, folder: Path
) -> Iterator[tuple[Slice | None, str]]:
    """Yield slices of a stratum, or None and why a file has none.

    Args:
        stratum: the inputs.
        settings: how they are read.
        assumptions: how many slices are taken; of few files, several of each, evenly spaced.
        budget: bytes of all slices of the stratum.
        folder: for copies of the beginnings of text tables.
    """
    each = max(1, budget // max(len(stratum.chosen), 1))
    cuts = max(1, assumptions.slice_files // max(len(stratum.chosen), 1))
    for number, (name, size) in enumerate(stratum.chosen):
        if size <= each:
            found = [Slice(stratum.kind, InputPart(name), 1.0, size)]
        else:
            found = _slices(stratum.kind, name, size, settings, each, cuts, folder / f"{number:04d}")
            if not found and size <= _WHOLE * each:
                found = [Slice(stratum.kind, InputPart(name), 1.0, size)]
        if not found:
            yield None, f"{name} cannot be read in part"
        for one in found:
            yield one, ""


def _slices(
    kind: str, name: str, size: int, settings: CandidateSettings, each: int, cuts: int, folder: Path
) -> list[Slice]:
    """Return slices of together about `each` bytes; none if the file cannot be cut."""
    if reader_of(name, settings.readers) is not None or (is_remote(name) and not gives_ranges(name, size)):
        return []
    if kind_of(name) in SAMPLE_KINDS and is_shard(name, settings.columns):
        return [Slice(kind, InputPart(name), 1.0, size)]  # its images are not looked at
    if kind_of(name) is InputKind.IMAGES:
        return [_of_folder(kind, name, size, each)]
    if kind_of(name) is InputKind.URLS and not is_plain(name):
        return []
    if kind_of(name) in (InputKind.TAR, InputKind.URLS):
        return _spans(kind, name, size, _spread(size, each, cuts))
    if kind_of(name) is not InputKind.TABLE:
        with open_ranges(name) as file:
            if not (".warc" in name.lower() or ".wat" in name.lower()) or why_not_split(file, each):
                return []
        return _spans(kind, name, size, _spread(size, each, cuts))
    if format_of(name)[0] == "parquet":
        groups = parquet_sizes(name, settings.columns)
        rows, stored = sum(rows for rows, _ in groups), max(1, sum(stored for _, stored in groups))
        # Image bytes are not read for candidates: the share is that of the columns that are.
        spans = _spread(rows, min(rows, max(cuts, round(rows * each / stored))), cuts)
        return [
            Slice(kind, InputPart(name, number=int(first > 0), table=RowRange(first, end)), (end - first) / rows, size)
            for first, end in spans
        ]
    one = _text_slice(kind, name, size, each, folder)
    return [] if one is None else [one]


def _spans(kind: str, name: str, size: int, spans: Sequence[tuple[int, int]]) -> list[Slice]:
    return [
        Slice(
            kind,
            InputPart(name, number=int(first > 0), records=(first, end), is_exact=first == 0),
            (end - first) / size,
            size,
        )
        for first, end in spans
    ]


def _of_folder(kind: str, name: str, size: int, each: int) -> Slice:
    images = len(listing_of(name).images)
    taken = min(images, max(1, round(images * each / max(size, 1))))
    return Slice(kind, InputPart(name, table=RowRange(0, taken)), taken / max(images, 1), size)


def _spread(whole: int, part: int, cuts: int) -> list[tuple[int, int]]:
    """Return ranges of together `part` of `whole`, evenly spaced."""
    cuts = max(1, min(cuts, part))
    length = max(1, part // cuts)
    starts = [whole * number // cuts for number in range(cuts)]
    return [(start, min(start + length, whole)) for start in starts]


def _text_slice(kind: str, name: str, size: int, each: int, folder: Path) -> Slice | None:
    """Copy the first lines of a text table, decompressed, to a file of its name."""
    folder.mkdir(parents=True, exist_ok=True)
    plain_name = Path(name).name
    with open_ranges(name, end=each) as file:
        compression = compression_of(file.read(6))
        file.seek(0)
        if compression is None:
            data = file.read()
            taken = len(data)
        else:
            chunks, taken, length = [], 0, 0
            for chunk in plain_chunks(file, compression):
                chunks.append(chunk)
                taken, length = file.tell(), length + len(chunk)
                if length >= _PLAIN_BYTES:
                    break
            data = b"".join(chunks)
            plain_name = plain_name.rpartition(".")[0]
    cut = data.rfind(b"\n") + 1
    if not cut:
        return None
    copy = folder / plain_name
    copy.write_bytes(data[:cut])
    return Slice(kind, InputPart(str(copy)), taken * cut / len(data) / size, size)
