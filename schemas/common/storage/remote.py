"""Fetch remote input files as a whole before they are read, with retries of transient failures.

Readers detect damage by what they cannot parse. A lost connection must not look like damage, or the rest of an archive
would be skipped for good; so a file is downloaded first, with retries, and read when it is complete.
"""

import contextlib
import errno
import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from openwit.schemas.common.errors import DataError, NetworkError, OpenWITError, RecipeError, StorageError, one_line
from openwit.schemas.common.storage_faults import is_disk_full

_ATTEMPTS = 5
_LONGEST_WAIT_S = 60
# Errors that another attempt will not change.
_FINAL = (FileNotFoundError, PermissionError, ImportError, ValueError)
_FINAL_NUMBERS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES})
_NO_CREDENTIALS = frozenset(
    {
        "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound",
        "DefaultCredentialsError", "RefreshError", "TokenRetrievalError", "UnauthorizedSSOTokenError",
    }
)  # fmt: skip

T = TypeVar("T")

_log = logging.getLogger(__name__)


def is_remote(name: str) -> bool:
    """Return whether a name is a URL for fsspec and not a path."""
    return "://" in name


def lacks_credentials(error: BaseException) -> bool:
    """Return whether an object store's library found no valid credentials."""
    return type(error).__name__ in _NO_CREDENTIALS


def is_final(error: BaseException) -> bool:
    """Return whether another attempt cannot help: no such file, no permission, no credentials, no space …"""
    return isinstance(error, _FINAL) or lacks_credentials(error) or getattr(error, "errno", None) in _FINAL_NUMBERS


def with_retries(action: Callable[[], T], *, where: str) -> T:
    """Call `action` up to five times with growing waits, while its error may be transient; return its result.

    Args:
        where: URL for the warning before the second call.
    """
    import tenacity  # it loads asyncio

    def tell(state: tenacity.RetryCallState) -> None:
        error = None if state.outcome is None else state.outcome.exception()
        if state.attempt_number == 1 and error is not None:
            _log.warning("%s: %s; trying again, %d times at most", where, one_line(error), _ATTEMPTS - 1)

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: not is_final(error)),
        stop=tenacity.stop_after_attempt(_ATTEMPTS),
        wait=tenacity.wait_exponential(max=_LONGEST_WAIT_S),
        before_sleep=tell,
        reraise=True,
    )
    return retrying(action)


@contextlib.contextmanager
def local_copy(name: str) -> Iterator[str]:
    """Yield the path of a file: its own if it is local, else of a temporary copy that is deleted afterwards.

    Args:
        name: a path, or a URL that fsspec knows (s3://, gs://, https://, hdfs:// …).

    Raises:
        DataError: the file does not exist.
        RecipeError: the filesystem's package is not installed.
        NetworkError: it cannot be downloaded, after several attempts at transient failures.
        StorageError: the disk is full.
    """
    if not is_remote(name):
        yield name
        return
    with tempfile.TemporaryDirectory(prefix="openwit-") as folder:
        # Readers recognise formats by the name.
        copy = Path(folder) / (name.partition("?")[0].rstrip("/").rpartition("/")[2] or "file")

        import fsspec

        def get() -> None:
            filesystem: Any
            filesystem, path = fsspec.url_to_fs(name)
            filesystem.get_file(path, str(copy))

        try:
            with_retries(get, where=name)
        except FileNotFoundError:
            raise DataError(f"{name} does not exist") from None
        except Exception as error:  # every filesystem raises its own errors
            raise _error(name, "fetched", error) from error
        yield str(copy)


def remote_glob(pattern: str) -> list[str]:
    """Return the URLs that match a pattern with `*`, `?` or `[`, sorted.

    Raises:
        NetworkError: the pattern's filesystem cannot list, or cannot be reached.
        RecipeError: the filesystem's package is not installed.
    """
    import fsspec

    try:
        filesystem, path = fsspec.url_to_fs(pattern)
        return sorted(filesystem.unstrip_protocol(match) for match in filesystem.glob(path))
    except Exception as error:
        raise _error(pattern, "listed", error) from error


def _error(name: str, verb: str, error: Exception) -> OpenWITError:
    if isinstance(error, ImportError):
        return RecipeError(f"{name} needs a package that is not installed: {error}")
    kind = StorageError if is_disk_full(error) else NetworkError
    return kind(f"{name} cannot be {verb}: {one_line(error)}")
