"""Do items of work in a worker process of any pool, and carry results, errors and logs to the driver."""

import logging
import pickle
import socket
import traceback
from collections.abc import Callable
from typing import Any

from openwit.pipeline.execution.pool import Work
from openwit.schemas.common.errors import OpenWITError, PluginError, RecipeError, one_line


class Outcome:
    """The result of an item or the error that it raised, and what it logged."""

    def __init__(self, result: Any, error: BaseException | None, logged: list[logging.LogRecord]) -> None:
        self._result = result
        self._error = error
        self._logged = logged

    def value(self) -> Any:
        """Log what the item logged; return its result or raise its error."""
        for record in self._logged:
            logging.getLogger(record.name).handle(record)
        if self._error is not None:
            raise self._error
        return self._result


def pickled(value: Any) -> bytes:
    """Pickle work or an item for worker processes.

    Raises:
        RecipeError: it holds something that they cannot import.
    """
    try:
        data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise RecipeError(
            f"{_type_name(value)} cannot be sent to worker processes ({error}): use --runner local --workers 1"
        ) from error
    if b"__main__" in data:
        raise RecipeError(
            f"{_type_name(value)} is defined in the main script or a notebook, where worker processes cannot import "
            "it: move it to a module, or use --runner local --workers 1"
        )
    return data


def _type_name(value: Any) -> str:
    return type(value).__qualname__


_current: tuple[str, Work] | None = None


def serve(job: str, load: Callable[[], bytes], item: bytes) -> Outcome:
    """Do an item; the work of the job stays until the next job begins.

    Args:
        job: names the job.
        load: returns the pickled work of the job.
        item: pickled.
    """
    global _current
    recorder = _Recorder()
    logging.getLogger().addHandler(recorder)
    try:
        if _current is None or _current[0] != job:
            _current = None
            work = _unpickled(load())
            work.setup()
            _current = job, work
        return Outcome(_current[1].run(pickle.loads(item)), None, recorder.records)
    except Exception as error:
        return Outcome(None, _portable(error), recorder.records)
    finally:
        logging.getLogger().removeHandler(recorder)


def _unpickled(data: bytes) -> Work:
    try:
        work: Work = pickle.loads(data)
    except ImportError as error:
        raise PluginError(
            f"a worker on {socket.gethostname()} cannot import what the job needs ({one_line(error)}): "
            "install it there"
        ) from error
    return work


def quiet_logs() -> None:
    """Let through OpenWIT's warnings, and of other libraries errors only."""
    logging.getLogger().setLevel(logging.ERROR)
    logging.getLogger("openwit").setLevel(logging.WARNING)


class _Recorder(logging.Handler):
    """Keep what an item logs for the driver."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        record.msg, record.args = record.getMessage(), None
        record.exc_info = None
        self.records.append(record)


def _portable(error: Exception) -> Exception:
    """Return an error as it can be pickled; one that is a bug has its traceback as a note."""
    if not isinstance(error, OpenWITError):
        error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError("".join(traceback.format_exception(error)))
    return error
