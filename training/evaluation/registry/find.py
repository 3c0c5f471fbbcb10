"""Find known datasets below a folder: what is there, how many images against those published, what is missing."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from openwit.schemas.common.errors import DataError, OpenWITError
from openwit.training.data.tar_index import tars_in
from openwit.training.evaluation.named_lists import folded
from openwit.training.evaluation.registry.layouts import CLASS_FOLDERS, PARQUET, READERS, WDS, Located
from openwit.training.evaluation.registry.table import KnownDataset, known_datasets


@dataclass(frozen=True)
class Counted:
    """A dataset that was found.

    Attributes:
        located: the dataset.
        counts: images by split.
        warnings: differences from published sizes, and what is damaged.
    """

    located: Located
    counts: dict[str, int]
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Inventory:
    """The datasets below a folder.

    Attributes:
        found: those that are there; a dataset in several layouts is there several times.
        missing: the others of the table.
        unreadable: of the missing ones, what has their name and cannot be read.
    """

    found: list[Counted]
    missing: list[KnownDataset]
    unreadable: list[Path] = field(default_factory=list)


def take_inventory(root: Path, known: Iterable[KnownDataset] | None = None) -> Inventory:
    """Find all datasets of the table and count their images.

    Raises:
        DataError: the root is no folder.
    """
    found: list[Counted] = []
    missing: list[KnownDataset] = []
    unreadable: list[Path] = []
    for each in known_datasets() if known is None else known:
        located = locate(root, each)
        found += [_counted(one) for one in located]
        if not located:
            missing.append(each)
            unreadable += _unreadable(root, each)
    return Inventory(found, missing, unreadable)


def locate(root: Path, known: KnownDataset) -> list[Located]:
    """Return a dataset in every layout in which it is below a folder: the export first, then its own, then others.

    Raises:
        DataError: the root is no folder.
    """
    if not root.is_dir():
        raise DataError(f"{root} is no folder: it must hold the datasets")
    places, folders = _places(root, known)
    located = [Located(known, layout, path, s) for layout, path in places if (s := _splits(layout, path))]
    if not located:
        located = [Located(known, CLASS_FOLDERS, path, s) for path in folders if (s := _splits(CLASS_FOLDERS, path))]
    return located


def _places(root: Path, known: KnownDataset) -> tuple[list[tuple[str, Path]], list[Path]]:
    """Return what is below the root and has a name of the dataset: layouts and paths, and other folders."""
    exports, tables, folders = _candidates(root, known)
    found = [(WDS, path) for path in exports]
    found += [(layout.kind, root / layout.folder) for layout in known.layouts]
    found += [(PARQUET, path) for path in tables]
    return [(layout, path) for layout, path in found if path.exists()], folders


def _unreadable(root: Path, known: KnownDataset) -> list[Path]:
    """Return what has a name of a dataset that was not found."""
    places, folders = _places(root, known)
    return list(dict.fromkeys([*(path for _, path in places), *folders]))


def locate_one(root: Path, known: KnownDataset) -> Located:
    """Return the first layout of a dataset below a folder.

    Raises:
        DataError: it is not there.
    """
    located = locate(root, known)
    if not located:
        if there := _unreadable(root, known):
            raise DataError(
                f"{there[0]} has the name of {known.title}, but holds none of its layouts that can be read"
            )
        export = (known.wds or known.names)[0]
        names = [f"wds_{export}", f"wds_vtab-{export}", *(layout.folder for layout in known.layouts), known.name]
        raise DataError(
            f"{root} holds no {known.title}: looked for {', '.join(dict.fromkeys(names))} and {known.name}.parquet"
        )
    return located[0]


def _splits(layout: str, path: Path) -> tuple[str, ...]:
    try:
        return tuple(READERS[layout].splits(path))
    except (OSError, OpenWITError):
        return ()


def _candidates(root: Path, known: KnownDataset) -> tuple[list[Path], list[Path], list[Path]]:
    """Return the exports, the tables and the folders below the root whose names are those of the dataset."""
    names = {folded(name) for name in known.names}
    wds = {folded(name) for name in known.wds} or names
    exports: list[Path] = []
    tables: list[Path] = []
    folders: list[Path] = []
    for path in sorted(each for each in root.iterdir() if not each.name.startswith(".")):
        is_export = path.name.startswith("wds_")
        plain = folded(
            path.name.removeprefix("wds_").removeprefix("vtab-").removeprefix("vtab_").removesuffix("_test")
        )
        if path.is_file():
            if path.suffix == ".parquet" and folded(path.stem) in names:
                tables.append(path)
        elif not path.is_dir():  # a link to nothing, or a pipe
            continue
        elif plain in wds and (is_export or _has_tars(path)):
            exports.append(path)
        elif plain in names and not is_export and not _has_tars(path):
            (tables if list(path.glob("[!.]*.parquet")) else folders).append(path)
    return exports, tables, folders


def _has_tars(folder: Path) -> bool:
    return bool(tars_in(folder)) or any(path.is_dir() and tars_in(path) for path in folder.iterdir())


def _counted(located: Located) -> Counted:
    counts: dict[str, int] = {}
    warnings: list[str] = []
    for split in located.splits:
        try:
            found = located.read(split)
        except (OpenWITError, OSError) as error:
            warnings.append(str(error))
            continue
        counts[split] = len(found.keys)
        warnings += found.notes
        warnings += [f"{located.path}, {split}: {len(keys):,} {reason}" for reason, keys in found.left_out.items()]
    return Counted(located, counts, warnings + located.differences(counts))
