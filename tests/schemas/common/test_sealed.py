import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.schemas.common.sealed import DamagedError, seal, unseal

TEXT = json.dumps({"stage": "select", "files": [{"path": "a", "bytes": 12}], "é": None}, ensure_ascii=False)


@given(st.integers(0, len(seal(TEXT).encode()) * 8 - 1))
def test_every_changed_bit_is_noticed(bit: int) -> None:
    data = bytearray(seal(TEXT).encode())
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DamagedError, match="^here is damaged"):
        unseal(bytes(data), "here")


@given(st.integers(0, len(seal(TEXT).encode()) - 1))
def test_every_cut_is_noticed(length: int) -> None:
    with pytest.raises(DamagedError, match="^here is damaged"):
        unseal(seal(TEXT).encode()[:length], "here")


def test_what_was_sealed_comes_back_and_is_plain_json() -> None:
    assert unseal(seal(TEXT).encode(), "here") == TEXT
    assert json.loads(seal(TEXT)) == {"checksum": json.loads(seal(TEXT))["checksum"], **json.loads(TEXT)}


def test_documents_of_earlier_releases_have_no_seal() -> None:
    assert unseal(TEXT.encode(), "here", required=False) == TEXT
    with pytest.raises(DamagedError, match="empty"):
        unseal(b" ", "here", required=False)
