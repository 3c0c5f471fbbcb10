"""Locks of folders in a store: one holder, and a holder that is gone does not lock for ever."""

import threading
import time

import fsspec
import pytest

from openwit.schemas.common.errors import StorageError
from openwit.schemas.common.locks import hold_lock
from openwit.schemas.common.storage import as_path, leases
from openwit.schemas.common.storage.leases import hold_lease

BUSY = "another command is running in x: wait for it"


@pytest.fixture
def path():
    yield as_path("memory://bucket/x/lock")
    fsspec.filesystem("memory").rm("/", recursive=True)


def test_a_second_holder_is_refused_and_a_later_one_is_not(path):
    with hold_lease(path, BUSY, renew_s=0.02):
        for _ in range(2):
            with pytest.raises(StorageError, match=BUSY), hold_lease(path, BUSY, lease_s=0.5):
                pass
    with hold_lease(path, BUSY), pytest.raises(RuntimeError), hold_lock(path.with_name("other"), BUSY):
        raise RuntimeError
    with hold_lock(path.with_name("other"), BUSY):
        pass
    assert len(list(path.parent.iterdir())) == 2  # one object each


def test_a_lease_that_is_not_renewed_is_taken_over(path):
    gone = leases._Lease(path, "a driver that was killed")
    gone.take(BUSY, 1.0)
    began = time.monotonic()
    with hold_lease(path, BUSY, lease_s=0.3):
        assert time.monotonic() - began >= 0.3
        assert gone.is_lost()


def test_only_one_of_several_takes_a_lease_over(path):
    leases._Lease(path, "gone").take(BUSY, 1.0)
    held, refused = [], []
    together = threading.Barrier(5)

    def take():
        together.wait()
        try:
            with hold_lease(path, BUSY, lease_s=0.2, renew_s=0.02):
                held.append(time.monotonic())
                time.sleep(1.0)
        except StorageError:
            refused.append(1)

    threads = [threading.Thread(target=take) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(held), len(refused)) == (1, 4)


def test_a_holder_that_stood_still_learns_that_it_lost(path):
    with pytest.raises(StorageError, match="another command took it over"), hold_lease(path, BUSY, renew_s=100):
        leases._Lease(path, "another").take(BUSY, 0.1)
