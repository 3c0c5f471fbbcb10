"""Unpack WordNet's archive: only the files that are read, whatever else the archive holds."""

import shutil
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

from openwit.schemas.common.atomic import TEMPORARY_PREFIX
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.storage_faults import storage_faults

_KINDS = ("noun", "verb", "adj", "adv")
_INDEXES = tuple(f"index.{kind}" for kind in _KINDS)
_FILES = frozenset({*_INDEXES, *(f"data.{kind}" for kind in _KINDS)})
_MOST_BYTES = 256 << 20


def is_unpacked(folder: Path) -> bool:
    """Return whether a folder holds the files that `queries.wordnet` reads."""
    return all((folder / name).is_file() for name in _INDEXES)


def unpack_wordnet(archive: Path, folder: Path) -> str:
    """Unpack the index and data files to a folder, whole or not at all; return a message.

    Nothing is taken but regular files of these names, so that no path of the archive decides where a file goes.

    Raises:
        DataError: the archive is damaged, or is not WordNet's.
        StorageError: the folder cannot be written, or holds something else.
    """
    with storage_faults(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=folder.parent))
        try:
            count = _extract(archive, temporary)
            temporary.chmod(0o755)
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
            if folder.exists():
                raise DataError(f"{folder} holds something else than WordNet's files: move it away")
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return f"unpacked {count} files to {folder}"


def _extract(archive: Path, folder: Path) -> int:
    taken: set[str] = set()
    size = 0
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = PurePosixPath(member.name).name
                if not member.isreg() or name not in _FILES or name in taken:
                    continue
                size += member.size
                if size > _MOST_BYTES:
                    raise DataError(
                        f"{archive} would unpack to more than {_MOST_BYTES >> 20} MiB: it is not WordNet's"
                    )
                source = tar.extractfile(member)
                assert source is not None
                with source, (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
                taken.add(name)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise DataError(f"{archive} cannot be unpacked ({error}): delete it and run the same command") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise DataError(f"{archive} cannot be unpacked ({error}): delete it and run the same command") from error
    if not set(_INDEXES) <= taken:
        raise DataError(f"{archive} is not WordNet's: it holds no {', '.join(sorted(set(_INDEXES) - taken))}")
    return len(taken)
