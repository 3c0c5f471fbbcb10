"""Lock a folder of an object store: by a lease that its holder renews and that another takes over when it ran out.

A lease is an object `LOCK-000001` that its holder writes again every few seconds. Whoever finds one watches it by its
own clock: if it does not change for `LEASE_S`, its holder is gone, and the next number is created in one conditional
request, which only one of several can win. A holder that finds a higher number than its own has lost the lease. So
no clocks are compared, and nothing but conditional creation is asked of the store.
"""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from openwit.schemas.common.errors import OpenWITError, StorageError
from openwit.schemas.common.stopping import stop_if_asked
from openwit.schemas.common.storage.store_path import StorePath

LEASE_S = 20.0
"""Seconds without renewal after which a lease may be taken over."""
RENEW_S = 4.0

_DIGITS = 6


class Hold:
    """What the holder of a lock has of it; this one, of a lock of the operating system, cannot be lost."""

    def check(self, *, ask: bool = False) -> None:
        """Raise if the lock was lost.

        Args:
            ask: look at the store; otherwise what the last renewal found counts, which costs nothing.

        Raises:
            StorageError: another process took it over.
        """


@contextlib.contextmanager
def hold_lease(
    path: StorePath, busy: str, *, lease_s: float | None = None, renew_s: float | None = None
) -> Iterator[Hold]:
    """Hold a lease while the block runs, which can check that it is still held.

    Args:
        path: names the lease.
        busy: the sentence for a lease that another holds.
        lease_s: seconds after which a lease that is not renewed has run out; None: `LEASE_S`.
        renew_s: seconds between renewals; None: `RENEW_S`.

    Raises:
        StorageError: another holds it; or this holder lost it, because it did not renew it in time.
    """
    lease = _Lease(path, f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex}")
    lease.take(busy, LEASE_S if lease_s is None else lease_s)
    done = threading.Event()
    renewal = threading.Thread(
        target=lease.renew_until, args=(done, RENEW_S if renew_s is None else renew_s), daemon=True
    )
    renewal.start()
    try:
        yield lease
    finally:
        done.set()
        renewal.join()
        lost = lease.is_lost()
        if not lost:
            lease.release()
    if lost:
        lease.check()


class _Lease(Hold):
    def __init__(self, path: StorePath, owner: str) -> None:
        self._path = path
        self._owner = owner
        self._number = 0
        self._renewals = 0
        self._lost = threading.Event()

    def take(self, busy: str, lease_s: float) -> None:
        while True:
            held = self._held()
            if held and not _is_released(held[-1]) and not _has_run_out(held[-1], lease_s):
                raise StorageError(busy)
            self._number = _number(held[-1]) + 1 if held else 1
            if self._mine().create(self._content()):
                for old in held:
                    old.unlink(missing_ok=True)
                return

    def renew_until(self, done: threading.Event, renew_s: float) -> None:
        while not done.wait(renew_s):
            with contextlib.suppress(OpenWITError):  # the next renewal may reach the store
                if self.is_lost():
                    return
                self._renewals += 1
                self._mine().write_bytes(self._content())

    def is_lost(self) -> bool:
        """Return whether another took the lease over."""
        with contextlib.suppress(OpenWITError):  # the next question may reach the store
            if any(_number(other) > self._number for other in self._held()):
                self._lost.set()
        return self._lost.is_set()

    def check(self, *, ask: bool = False) -> None:
        """See `Hold`."""
        if self._lost.is_set() or (ask and self.is_lost()):
            raise StorageError(
                f"{self._path.parent}: another command took it over, because this one stood still: run it again"
            )

    def release(self) -> None:
        with contextlib.suppress(OpenWITError):  # it runs out by itself
            self._mine().write_bytes(self._content(released=True))

    def _held(self) -> list[Path]:
        return sorted(self._path.parent.glob(f"{self._path.name}-{'[0-9]' * _DIGITS}"))

    def _mine(self) -> StorePath:
        path = self._path.with_name(f"{self._path.name}-{self._number:0{_DIGITS}d}")
        assert isinstance(path, StorePath)
        return path

    def _content(self, *, released: bool = False) -> bytes:
        return json.dumps({"owner": self._owner, "renewals": self._renewals, "released": released}).encode()


def _number(path: Path) -> int:
    return int(path.name[-_DIGITS:])


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _is_released(path: Path) -> bool:
    try:
        return bool(json.loads(_read(path) or b"{}").get("released", False))
    except (ValueError, AttributeError):
        return False


def _has_run_out(path: Path, lease_s: float) -> bool:
    """Watch a lease: return True if it does not change for its time, False as soon as it does."""
    first = _read(path)
    until = time.monotonic() + lease_s
    while time.monotonic() < until:
        stop_if_asked()
        time.sleep(min(1.0, lease_s / 10))
        now = _read(path)
        if now != first:
            return False
    return True
