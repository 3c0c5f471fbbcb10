"""Tell a full or failing standard output from a full disk: both raise the same error, without a name."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from openwit.schemas.common.errors import StorageError, one_line


class GuardedOutput:
    """A text stream whose errors of writing are sentences that name it; everything else is the stream's own.

    Raises:
        StorageError: the output cannot be written.
        BrokenPipeError: its reader has ended, as of any stream.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text."""
        with self._named():
            return self._stream.write(text)

    def flush(self) -> None:
        """Write what is buffered."""
        with self._named():
            self._stream.flush()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            discard(self._stream)
            reason = error.strerror or one_line(error)
            raise StorageError(f"the standard output cannot be written: {reason}") from error


@contextmanager
def guarded_output() -> Iterator[None]:
    """Guard `sys.stdout` while the block runs, and write what is buffered at its end."""
    before = sys.stdout
    guarded: Any = GuardedOutput(before)
    sys.stdout = guarded
    try:
        yield
        guarded.flush()
    finally:
        sys.stdout = before


def discard(stream: TextIO) -> None:
    """Send what is still buffered in a stream nowhere; Python would complain when it flushes it at the end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
