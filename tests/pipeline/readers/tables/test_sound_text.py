"""Texts in tables that are not UTF-8: in Parquet files, which do not check, and in lines that Arrow cannot parse."""

import bz2
import contextlib
import gzip
import io
import lzma

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.pipeline.common.counting import ReasonCounter
from openwit.pipeline.readers.tables.sound_text import TextDecoder, Utf8Lines
from openwit.pipeline.readers.tables.tables import open_table
from openwit.schemas.common.errors import DataError

BAD = [b"caf\xe9 au lait", b"ok", "schön".encode(), b"gr\xfc\xdfe aus Wien"]
TEXTS = ["café au lait", "ok", "schön", "grüße aus Wien"]


def rows_of(path, tally=None):
    found = []
    for batch in open_table(path, count=tally or ReasonCounter()).batches():
        found += zip(batch.url.to_pylist(), batch.texts.to_pylist(), strict=True)
    return found


def unchecked(values):
    return pa.array(values, pa.binary()).view(pa.string())


def as_dictionary(values):
    return pa.DictionaryArray.from_arrays(pa.array(range(len(values)), pa.int32()), unchecked(values))


def as_lists(values):
    return pa.ListArray.from_arrays(pa.array(range(len(values) + 1), pa.int32()), unchecked(values))


def as_large(values):
    return pa.array(values, pa.large_binary()).view(pa.large_string())


@pytest.mark.parametrize("make", [unchecked, as_dictionary, as_lists, as_large])
def test_parquet_texts_in_another_charset_are_decoded_and_counted(tmp_path, make):
    urls = [f"http://a.example/{n}" for n in range(4)]
    pq.write_table(pa.table({"url": urls, "text": make(BAD)}), tmp_path / "t.parquet")
    tally = ReasonCounter()
    assert rows_of(tmp_path / "t.parquet", tally) == [(url, [text]) for url, text in zip(urls, TEXTS, strict=True)]
    assert tally.details["read_under_a_guess"] == ["2 values not in UTF-8 read as cp1252"]


def test_parquet_urls_in_another_charset_are_decoded(tmp_path):
    pq.write_table(
        pa.table(
            {
                "url": unchecked(["http://a.example/Grüße aus der schönen Stadt Köln.jpg".encode("cp1252")]),
                "text": ["x"],
            }
        ),
        tmp_path / "t.parquet",
    )
    assert rows_of(tmp_path / "t.parquet") == [("http://a.example/Grüße aus der schönen Stadt Köln.jpg", ["x"])]


def test_repeated_columns_that_are_not_read_do_no_harm(tmp_path):
    table = pa.Table.from_arrays(
        [pa.array(["u"]), pa.array(["t"]), pa.array([1]), pa.array([2])], names=["url", "text", "x", "x"]
    )
    pq.write_table(table, tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text("url,text,x,x\nu,t,1,2\n")
    assert rows_of(tmp_path / "t.parquet") == rows_of(tmp_path / "t.csv") == [("u", ["t"])]
    twice = table.rename_columns(["url", "text", "text", "x"])
    pq.write_table(twice, tmp_path / "twice.parquet")
    with pytest.raises(DataError, match="twice.parquet has 2 columns called 'text': give each its own name"):
        open_table(tmp_path / "twice.parquet")


def test_a_broken_line_in_another_charset_is_dropped_and_counted(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"url,text\nu1,caf\xe9,more\nu2,caf\xe9\nu3,ok\n")
    tally = ReasonCounter()
    assert rows_of(tmp_path / "t.csv", tally) == [("u2", ["café"]), ("u3", ["ok"])]
    assert tally.details["broken_line"] == ["line 2: 3 columns, expected 2"]
    assert tally.details["read_under_a_guess"] == ["2 lines not in UTF-8 read as cp1252"]


PLAIN = b"url,text\n" + b"".join(b"u%d,text %d\n" % (n, n) for n in range(45))
ROWS = [(f"u{n}", [f"text {n}"]) for n in range(45)]
PACKED = gzip.compress(PLAIN)


@pytest.mark.parametrize(
    ("name", "data", "note"),
    [
        ("t.csv.gz", PLAIN, None),
        ("t.csv", PACKED, None),
        ("t.csv.gz", bz2.compress(PLAIN), None),
        ("t.csv.xz", lzma.compress(PLAIN), None),
        ("t.csv.gz", PACKED + b"junk", "there are other bytes after the end of the gzip stream"),
        ("t.csv.bz2", bz2.compress(PLAIN[:-1]) + b"junk", "there are other bytes after the end of the bzip2 stream"),
        ("t.csv.xz", lzma.compress(PLAIN[:-1]) + b"junk", "there are other bytes after the end of the xz stream"),
        ("t.csv.gz", gzip.compress(PLAIN[:-1]) + b"\0" * 20_000, None),
        ("t.csv.gz", PACKED[:-8] + b"\0" * 8, "gzip: Error -3 while decompressing data: incorrect data check"),
        ("t.csv.gz", PACKED[:-8], "the gzip stream ends too early"),
    ],
)
def test_compression_shows_in_the_first_bytes_and_damage_at_the_end_costs_no_row(tmp_path, name, data, note):
    (tmp_path / name).write_bytes(data)
    tally = ReasonCounter()
    assert rows_of(tmp_path / name, tally) == ROWS
    expected = [] if note is None else [f"the rest of the file cannot be read: {note}"]
    assert tally.details.get("damaged_rows", []) == expected


@pytest.mark.parametrize("first", ["sep=;\n", '"sep=;"\r\n', "SEP=;\n", "\ufeffsep=;\n"])
def test_a_first_line_that_states_the_delimiter_is_obeyed(tmp_path, first):
    (tmp_path / "t.csv").write_bytes((first + "url;text, all\nu;a, b\n").encode())
    [(url, texts)] = rows_of_named(tmp_path / "t.csv")
    assert (url, texts) == ("u", ["a, b"])


def rows_of_named(path):
    from openwit.pipeline.readers.tables.settings import TableColumns

    reader = open_table(path, TableColumns(text=("text, all",)))
    found = []
    for batch in reader.batches():
        found += zip(batch.url.to_pylist(), batch.texts.to_pylist(), strict=True)
    return found


@given(st.lists(st.binary(max_size=6), max_size=30), st.integers(1, 40))
def test_lines_that_are_utf8_pass_unchanged_and_the_others_line_by_line(parts, size):
    data = b"\n".join(parts)

    class Slow(io.BytesIO):
        def read(self, _=-1):
            return super().read(size)

    decoder = TextDecoder("line")
    found = io.BufferedReader(Utf8Lines(Slow(data), decoder)).read()
    found.decode()
    lines, expected = found.split(b"\n"), data.split(b"\n")
    assert len(lines) == len(expected)
    for line, given_ in zip(lines, expected, strict=True):
        try:
            given_.decode()
        except UnicodeDecodeError:
            continue
        assert line == given_


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.jsonl"])
def test_a_line_without_an_end_is_not_held_in_memory(tmp_path, name, monkeypatch):
    from openwit.pipeline.readers.tables import line_stream

    monkeypatch.setattr(line_stream, "LONGEST_LINE", 1 << 20)
    kept = []
    real = line_stream.LineStream._keep
    monkeypatch.setattr(
        line_stream.LineStream, "_keep", lambda self, start: (real(self, start), kept.append(self._line_bytes))
    )
    data = b"url,text\nu," + b"x" * (40 << 20)
    (tmp_path / name).write_bytes(gzip.compress(data, 1) if name.endswith(".gz") else data)
    with contextlib.suppress(DataError):
        rows_of(tmp_path / name)
    assert kept
    assert max(kept) <= 1 << 20
