"""Remote input files, brought here whole before they are read.

Readers tell damage by what they cannot parse. A connection that breaks must not look like damage, or the rest of an
archive would be lost for good; so a file is fetched first, with retries, and read when it is complete.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import tenacity

from openwit.schemas.common.errors import OpenWITError

_ATTEMPTS = 5
_LONGEST_WAIT_S = 60
# Answers that another attempt will not change.
_FINAL = (FileNotFoundError, PermissionError, ImportError, ValueError)


def is_remote(name: str) -> bool:
    """Whether a name is a URL for fsspec and not a path."""
    return "://" in name


@contextlib.contextmanager
def local_copy(name: str) -> Iterator[str]:
    """The path of a file: its own when it is local, else of a temporary copy that goes when the block ends.

    Args:
        name: a path, or a URL that fsspec knows (s3://, gs://, https://, hdfs:// …).

    Raises:
        OpenWITError: the file cannot be had, after several attempts with growing waits where another may help.
    """
    if not is_remote(name):
        yield name
        return
    with tempfile.TemporaryDirectory(prefix="openwit-") as folder:
        # readers tell formats by the name
        copy = Path(folder) / (name.partition("?")[0].rstrip("/").rpartition("/")[2] or "file")
        try:
            _get(name, str(copy))
        except FileNotFoundError:
            raise OpenWITError(f"{name} does not exist") from None
        except ImportError as error:
            raise OpenWITError(f"{name} needs a package that is not installed: {error}") from error
        except Exception as error:  # every filesystem has errors of its own
            raise OpenWITError(
                f"{name} cannot be fetched: {' '.join(str(error).split()) or type(error).__name__}"
            ) from error
        yield str(copy)


def remote_glob(pattern: str) -> list[str]:
    """URLs that a pattern with `*`, `?` or `[` names, sorted.

    Raises:
        OpenWITError: the pattern's filesystem is unknown, cannot list, or cannot be reached.
    """
    try:
        filesystem, path = fsspec.url_to_fs(pattern)
        return sorted(filesystem.unstrip_protocol(match) for match in filesystem.glob(path))
    except ImportError as error:
        raise OpenWITError(f"{pattern} needs a package that is not installed: {error}") from error
    except Exception as error:
        raise OpenWITError(
            f"{pattern} cannot be listed: {' '.join(str(error).split()) or type(error).__name__}"
        ) from error


def _final(error: BaseException) -> bool:
    return isinstance(error, _FINAL)


@tenacity.retry(
    retry=tenacity.retry_if_exception(lambda error: not _final(error)),
    stop=tenacity.stop_after_attempt(_ATTEMPTS),
    wait=tenacity.wait_exponential(max=_LONGEST_WAIT_S),
    reraise=True,
)
def _get(url: str, target: str) -> None:
    filesystem: Any
    filesystem, path = fsspec.url_to_fs(url)
    filesystem.get_file(path, target)
