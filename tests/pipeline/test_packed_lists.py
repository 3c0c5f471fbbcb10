"""Every list that `wit` takes may be compressed in any of four ways."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from openwit.pipeline.dataset.removal_list import load_removal_list
from openwit.pipeline.download.blocklist import load_blocklist
from openwit.pipeline.readers.inputs import expand_inputs
from openwit.pipeline.stages.queries.sources import read_query_table
from openwit.pipeline.text.filters.adult_words import read_word_list
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.text_files import read_text

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}
READERS: list[tuple[str, Callable[[Path], Any]]] = [
    ("l.txt", lambda path: load_removal_list(path).words),
    ("l.txt", lambda path: len(load_blocklist(path))),
    ("l.paths", lambda path: expand_inputs([str(path)], "k")),
    ("l.txt", read_query_table),
    ("l", read_query_table),
    ("l.txt", read_word_list),
    ("l.txt", read_text),
]


@pytest.mark.parametrize("ending", PACKERS)
@pytest.mark.parametrize(("name", "read"), READERS)
def test_packed_lists_hold_what_plain_ones_hold(
    tmp_path: Path, name: str, read: Callable[[Path], Any], ending: str
) -> None:
    data = b"".join(b"b%d.org\n" % number for number in range(50))
    (tmp_path / name).write_bytes(data)
    (tmp_path / (name + ending)).write_bytes(PACKERS[ending](data))
    assert read(tmp_path / (name + ending)) == read(tmp_path / name)
    (tmp_path / (name + ending)).write_bytes(PACKERS[ending](data)[:-3])
    with pytest.raises(DataError, match="l.* cannot be read: "):
        read(tmp_path / (name + ending))


@pytest.mark.parametrize("ending", PACKERS)
def test_packed_json_lists(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"q.json{ending}").write_bytes(PACKERS[ending](b'["red kite", "007"]'))
    assert read_query_table(tmp_path / f"q.json{ending}") == ["red kite", "007"]
