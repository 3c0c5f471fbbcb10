"""Fetch the files of several sources: told and checked before anything starts, a few at a time, whole or absent."""

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from openwit.pipeline.inputs.client import CancelledError, Client
from openwit.pipeline.inputs.remote_file import LOCK, Record, RemoteFile
from openwit.pipeline.inputs.settings import Wanted
from openwit.pipeline.inputs.sources import Listing, list_files
from openwit.pipeline.inputs.transfer import download, held_bytes
from openwit.schemas.common.errors import DataError, RecipeError, StorageError
from openwit.schemas.common.locks import hold_lock
from openwit.schemas.common.storage_faults import shown

_SPARE_BYTES = 64 << 20
# Sizes of more files are estimated from these.
_ASKED = 32
_POLL_S = 0.2

Report = Callable[[int, int], None]
"""Called now and then with the bytes that are there and those that are wanted."""


@dataclass
class FileState:
    """A file of the plan.

    Attributes:
        file: it.
        size: its bytes, None if unknown.
        is_complete: it is there already.
        held: bytes of it that an interrupted run has left.
        is_estimated: its size is the mean of others.
    """

    file: RemoteFile
    size: int | None
    is_complete: bool = False
    held: int = 0
    is_estimated: bool = False

    @property
    def missing(self) -> int:
        """Return the bytes to fetch, 0 where the size is unknown."""
        return 0 if self.is_complete or self.size is None else max(0, self.size - self.held)


@dataclass
class FetchPlan:
    """What is to be fetched.

    Attributes:
        states: every file of every source, in order.
        finish: what is done with the files of a source when they are there.
    """

    states: list[FileState]
    finish: list[Callable[[], str]] = field(default_factory=list)

    @property
    def open(self) -> list[FileState]:
        """Return the files that are not complete."""
        return [state for state in self.states if not state.is_complete]

    @property
    def missing(self) -> int:
        """Return the bytes to fetch, as far as sizes are known."""
        return sum(state.missing for state in self.open)


def plan_fetch(client: Client, wanted: Sequence[Wanted]) -> FetchPlan:
    """Return what is to be fetched; nothing is written.

    Raises:
        DataError: there is no such crawl, dump or file; or a file of another size is in a file's place.
        RecipeError: two sources want one place.
        NetworkError: a server cannot be reached, or refuses.
    """
    plan = FetchPlan([])
    seen: dict[Path, str] = {}
    for each in wanted:
        listing = list_files(client, each)
        for file in listing.files:
            place = file.target.absolute()
            if seen.setdefault(place, file.url) != file.url:
                raise RecipeError(f"{seen[place]} and {file.url} would both be {file.target}: give one another `to`")
        plan.states += _states(client, listing)
        if listing.finish is not None:
            plan.finish.append(listing.finish)
    return plan


def _states(client: Client, listing: Listing) -> list[FileState]:
    if listing.is_done:
        return [
            FileState(file, file.target.stat().st_size if file.target.exists() else None, True)
            for file in listing.files
        ]
    records = {folder: Record(folder) for folder in {file.target.parent for file in listing.files}}
    states = [FileState(file, records[file.target.parent].size(file.target.name)) for file in listing.files]
    unknown = [state for state in states if state.size is None or not state.file.target.exists()]
    asked = [state for n, state in enumerate(unknown) if n < _ASKED or state.file.target.exists()]
    for state in asked:
        state.size = client.version(state.file.url).size
    sizes = [state.size for state in asked[1:] or asked if state.size is not None]
    for state in unknown[_ASKED:]:
        if state.size is None and sizes:
            state.size, state.is_estimated = sum(sizes) // len(sizes), True
    for state in states:
        _look(state)
    return states


def _look(state: FileState) -> None:
    """Find out what of a file is there."""
    target = state.file.target
    if target.is_dir():
        raise DataError(f"{target} is a folder, where the file {state.file.url} would go")
    if not target.exists():
        state.held = held_bytes(state.file)
        return
    there = target.stat().st_size
    if state.size is not None and there != state.size:
        raise DataError(
            f"{target} has {there:,} bytes, but {state.file.url} has {state.size:,}: delete it to fetch it again"
        )
    state.size, state.is_complete = there, True


def check_space(plan: FetchPlan) -> None:
    """Check that the disks have room for the plan.

    Raises:
        StorageError: one has not.
    """
    needed: dict[int, tuple[Path, int]] = {}
    for state in plan.open:
        folder = next(parent for parent in state.file.target.absolute().parents if parent.exists())
        device = folder.stat().st_dev
        needed[device] = (folder, needed.get(device, (folder, 0))[1] + state.missing)
    for folder, size in needed.values():
        free = shutil.disk_usage(folder).free
        if size and size + _SPARE_BYTES > free:
            raise StorageError(
                f"the disk of {shown(folder)} has {free / 1e9:,.1f} GB free, but {size / 1e9:,.1f} GB are to be "
                "fetched: free some, or take fewer files"
            )


def fetch_files(client: Client, plan: FetchPlan, connections: int, report: Report) -> list[str]:
    """Fetch what is open of a plan; return messages of what was done with the files.

    Raises:
        DataError: a file is missing on the server, or its checksum is another.
        NetworkError: a server cannot be reached or refuses, after several attempts.
        StorageError: a disk is full, or another `wit inputs` writes to the folder.
    """
    folders = sorted({state.file.target.parent for state in plan.open})
    with _locked(folders):
        records = {folder: Record(folder) for folder in folders}
        there = {id(state): state.held for state in plan.open}
        lock = threading.Lock()

        def one(state: FileState) -> None:
            def on_bytes(count: int) -> None:
                with lock:
                    there[id(state)] = count

            version, size = download(client, state.file, on_bytes)
            records[state.file.target.parent].add(state.file, version, size)

        def tell() -> None:
            with lock:
                report(sum(there.values()), sum(max(state.size or 0, there[id(state)]) for state in plan.open))

        _run(client, plan.open, one, connections, tell)
        return [finish() for finish in plan.finish]


def _run(
    client: Client,
    states: Sequence[FileState],
    one: Callable[[FileState], None],
    connections: int,
    tell: Callable[[], None],
) -> None:
    """Run downloads in threads; the first error, or a signal, ends the others at their next bytes."""
    pool = ThreadPoolExecutor(connections, thread_name_prefix="fetch")
    try:
        futures: set[Future[None]] = {pool.submit(one, state) for state in states}
        while futures:
            done, futures = wait(futures, timeout=_POLL_S, return_when=FIRST_EXCEPTION)
            for future in done:
                error = future.exception()
                if error is not None and not isinstance(error, CancelledError):
                    raise error
            tell()
    except BaseException:
        client.stop.set()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _locked(folders: Sequence[Path]) -> Iterator[None]:
    with ExitStack() as stack:
        for folder in folders:
            busy = f"another wit inputs writes to {folder}: wait for it, or choose another folder"
            stack.enter_context(hold_lock(folder / LOCK, busy))
        yield
