import errno
from pathlib import Path

import pyarrow as pa
import pytest

from openwit.schemas.common.errors import StorageError
from openwit.schemas.common.storage_faults import is_disk_full, sentence_of, storage_faults


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_a_storage_error_that_names_the_folder(tmp_path: Path, number: int) -> None:
    with pytest.raises(StorageError, match=str(tmp_path)), storage_faults(tmp_path):
        raise OSError(number, "write failed")


def test_a_full_disk_is_recognised_by_its_text() -> None:
    assert is_disk_full(RuntimeError("OSError: [Errno 28] No space left on device [while running 'Shards']"))
    assert is_disk_full(RuntimeError(str(OSError(errno.EDQUOT, "Disk quota exceeded"))))
    assert not is_disk_full(RuntimeError("[Errno 280] something else"))


@pytest.mark.parametrize(
    "number",
    [errno.EROFS, errno.EACCES, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EIO, errno.EMFILE],
)
def test_what_a_file_system_refuses_is_one_sentence_with_the_path(number: int) -> None:
    with pytest.raises(StorageError, match=r"^/far/away: .*; ") as caught, storage_faults(Path("/elsewhere")):
        raise OSError(number, "refused", "/far/away")
    assert "\n" not in str(caught.value)
    with pytest.raises(StorageError, match=r"^/elsewhere: "), storage_faults(Path("/elsewhere")):
        raise RuntimeError(f"[Errno {number}] said by a library")


def test_what_libraries_say_is_understood(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=f"disk of {tmp_path}"), storage_faults(tmp_path):
        raise OSError("4000 requested and 12 written")
    with (
        pytest.raises(StorageError, match=r"^/dev/null/x: "),
        storage_faults(tmp_path),
        pa.OSFile("/dev/null/x", "wb"),
    ):
        pass
    with pytest.raises(StorageError, match="no space is left"), storage_faults(tmp_path):
        raise ValueError('Error while serializing: IoError(Os { code: 28, kind: StorageFull, message: "No space …" })')


def test_a_long_path_is_cut() -> None:
    sentence = sentence_of(OSError(errno.ENAMETOOLONG, "File name too long", "/" + 5000 * "a"))
    assert len(sentence) < 300


def test_other_errors_pass_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), storage_faults(tmp_path):
        raise FileNotFoundError(errno.ENOENT, "no")
    with pytest.raises(KeyError), storage_faults(tmp_path):
        raise KeyError("28")
