import errno
from pathlib import Path

import pytest

from openwit.schemas.common.errors import StorageError
from openwit.schemas.common.full_disk import disk_full_as_user_error, is_disk_full


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_a_storage_error_that_names_the_folder(tmp_path: Path, number: int) -> None:
    with pytest.raises(StorageError, match=str(tmp_path)), disk_full_as_user_error(tmp_path):
        raise OSError(number, "write failed")


def test_a_full_disk_is_recognised_by_its_text() -> None:
    assert is_disk_full(RuntimeError("OSError: [Errno 28] No space left on device [while running 'Shards']"))
    assert is_disk_full(RuntimeError(str(OSError(errno.EDQUOT, "Disk quota exceeded"))))
    assert not is_disk_full(RuntimeError("[Errno 280] something else"))


def test_other_errors_pass_through(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), disk_full_as_user_error(tmp_path):
        raise PermissionError(errno.EACCES, "no")
