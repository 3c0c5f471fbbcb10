import bz2
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.pipeline.common.counting import ReasonCounter
from openwit.pipeline.readers.tables.batches import texts_of_rows
from openwit.pipeline.readers.tables.files import is_table_name
from openwit.pipeline.readers.tables.parquet_tables import read_images
from openwit.pipeline.readers.tables.settings import TableColumns
from openwit.pipeline.readers.tables.tables import TableReader, open_table
from openwit.schemas.common.errors import OpenWITError

DATA = Path(__file__).parents[4].parent / "shared" / "data"


def rows_of(reader: TableReader) -> list[tuple[Any, ...]]:
    rows = []
    for batch in reader.batches():
        assert batch.first_row == (rows[-1][0] + 1 if rows else batch.first_row)
        columns = [c.to_pylist() if c is not None else [None] * len(batch) for c in (batch.url, batch.texts)]
        rows.extend((batch.first_row + i, url, texts) for i, (url, texts) in enumerate(zip(*columns, strict=True)))
    return rows


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


@pytest.mark.parametrize(
    ("columns", "url", "texts"),
    [
        (["url", "text"], "url", ("text",)),
        (["SAMPLE_ID", "URL", "TEXT", "LICENSE"], "URL", ("TEXT",)),  # LAION
        (["uid", "url", "text", "original_width"], "url", ("text",)),  # DataComp
        (
            [
                "language",
                "page_url",
                "image_url",
                "page_title",
                "caption_reference_description",
                "caption_attribution_description",
                "caption_alt_text_description",
            ],
            "image_url",
            ("caption_reference_description", "caption_attribution_description", "caption_alt_text_description"),
        ),  # WIT
        (["image_url", "caption"], "image_url", ("caption",)),
        (["title", "alt", "url"], "url", ("alt",)),
    ],
)
def test_the_fields_names_of_columns_are_known(
    tmp_path: Path, columns: list[str], url: str, texts: tuple[str]
) -> None:
    reader = open_table(write(tmp_path / "t.parquet", {name: [f"http://a.example/{name}"] for name in columns}))
    assert (reader.columns.url, reader.columns.texts, reader.has_images) == (url, texts, False)
    assert rows_of(reader) == [(0, f"http://a.example/{url}", [f"http://a.example/{text}" for text in texts])]


FORMATS: dict[str, Any] = {
    "t.csv": lambda rows: "url,text,x\n" + "".join(f'{url},"{text}",1\n' for url, text in rows),
    "t.tsv": lambda rows: "url\ttext\tx\n" + "".join(f"{url}\t{text}\t1\n" for url, text in rows),
    "t.jsonl": lambda rows: "".join(json.dumps({"url": url, "text": text, "x": 1}) + "\n" for url, text in rows),
}
ROWS = [("http://a.example/1", "A cat, grey"), ("http://a.example/2", ""), ("http://a.example/3", "Zwei Hunde é 猫")]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(("suffix", "compress"), [("", bytes), (".gz", gzip.compress), (".bz2", bz2.compress)])
def test_text_formats_compressed_or_not(tmp_path: Path, name: str, suffix: str, compress: Any) -> None:
    path = tmp_path / (name + suffix)
    path.write_bytes(compress(FORMATS[name](ROWS).encode()))
    for source in (path, str(path), path.as_uri()):
        tally = ReasonCounter()
        reader = open_table(source, count=tally)
        expected = [(row, url, [text] if text else []) for row, (url, text) in enumerate(ROWS)]
        assert rows_of(reader) == expected
        assert rows_of(reader) == expected  # a second time
        assert not tally.counts


def test_named_columns_and_several_texts(tmp_path: Path) -> None:
    path = write(
        tmp_path / "t.parquet",
        {
            "where": ["u1", "u2"],
            "a": ["one", None],
            "b": [["two", " ", None], None],
            "text": ["not this", ""],
            "part": ["val", None],
            "terms": ["CC0", ""],
            "n": ["k1", "k2"],
        },
    )
    columns = TableColumns(url="where", text=("a", "b"), split="part", license="terms", key="n")
    (batch,) = open_table(path, columns).batches()
    assert batch.url.to_pylist() == ["u1", "u2"]
    assert batch.texts.to_pylist() == [["one", "two"], []]
    assert batch.split.to_pylist() == ["val", None]
    assert batch.license.to_pylist() == ["CC0", ""]
    assert batch.key.to_pylist() == ["k1", "k2"]


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        (
            {"text": ["a"]},
            {},
            r"t\.parquet has no column with image URLs or image bytes; it has 'text': name them in the recipe",
        ),
        ({"url": ["a"], "x": ["b"]}, {}, "has no column with texts; it has 'url', 'x'"),
        ({"url": ["a"], "text": ["b"]}, {"text": ("caption",)}, "has no column 'caption'; it has 'url', 'text'"),
        ({"url": [1], "text": ["b"]}, {}, "column 'url' holds int64, not URLs"),
        ({"url": ["a"], "text": [1.5]}, {}, "column 'text' holds double, not texts"),
        ({"url": ["a"], "text": ["b"], "image": ["c"]}, {"image": "image"}, "holds string, not image bytes"),
    ],
)
def test_columns_that_do_not_fit_are_the_users_error(
    tmp_path: Path, columns: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    path = write(tmp_path / "t.parquet", columns)
    with pytest.raises(OpenWITError, match=message):
        open_table(path, TableColumns(**settings))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.parquet", None, "does not exist"),
        ("missing.csv", None, "does not exist"),
        ("t.xlsx", b"", "is not a table by its name"),
        ("t.parquet", b"not parquet at all", "not a readable Parquet file"),
        ("t.csv", b"", "not a readable CSV file"),
        ("t.jsonl", b"", "holds no JSON objects"),
        ("t.jsonl", b"not json\n", "holds no JSON objects"),
        ("t.json", b'[{"url": "a"}]', "JSON array: write one object per line"),
        ("t.tsv", b"A cat\thttp://a.example/1\nA dog\thttp://a.example/2\n", "has no header line"),
        ("t.csv.gz", b"", "t.csv.gz"),
        ("t.csv.gz", b"\x1f\x8b\x08\0", "t.csv.gz: nothing of it can be read: the gzip stream ends too early"),
        ("t.csv.bz2", bz2.compress(b"url,text\nu,t\n")[:20], "t.csv.bz2: nothing of it can be read: the bzip2 stream"),
        ("t.csv", b"url,text,text\nu,a,b\n", "t.csv has 2 columns called 'text': give each its own name"),
        ("t.csv", b"url,url,text\nu,a,b\n", "t.csv has 2 columns called 'url'"),
    ],
)
def test_files_that_are_no_tables_are_the_users_error(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OpenWITError, match=message):
        open_table(path)


def test_files_without_a_header_line_are_read_by_given_names(tmp_path: Path) -> None:
    path = tmp_path / "cc3m.tsv"
    path.write_text('"Best" cat\thttp://a.example/1\nA dog\thttp://a.example/2\n')
    reader = open_table(path, TableColumns(names=("caption", "url")))
    assert rows_of(reader) == [(0, "http://a.example/1", ['"Best" cat']), (1, "http://a.example/2", ["A dog"])]


def test_broken_lines_are_counted_and_passed_over(tmp_path: Path) -> None:
    csv = tmp_path / "t.csv"
    csv.write_bytes(b'url,text\nu1,one\nu2,too,many\n\nu3,"line\nbreak"\nu4\nu5,caf\xe9\n')
    tally = ReasonCounter()
    assert rows_of(open_table(csv, count=tally)) == [
        (0, "u1", ["one"]),
        (1, "u3", ["line\nbreak"]),
        (2, "u5", ["café"]),
    ]
    assert tally.counts == {"broken_line": 2, "read_under_a_guess": 0}
    assert tally.details["read_under_a_guess"] == ["1 line not in UTF-8 read as cp1252"]
    jsonl = tmp_path / "t.jsonl"
    jsonl.write_bytes(
        b'{"url": "u1", "text": "one"}\n{"url": \n[1]\n\n{"url": "u2", "text": ["a", null, "b"], "z": {}}\n{"text": 5}'
    )
    tally = ReasonCounter()
    assert rows_of(open_table(jsonl, count=tally)) == [(0, "u1", ["one"]), (1, "u2", ["a", "b"]), (2, None, ["5"])]
    assert tally.counts == {"broken_line": 2}


def test_a_truncated_compressed_file_gives_what_is_there(tmp_path: Path) -> None:
    rows = [(f"http://a.example/{n}", f"text {n} {n * 7919 % 1000003:x}") for n in range(60_000)]
    for name in ("t.csv", "t.jsonl"):
        path = tmp_path / (name + ".gz")
        data = gzip.compress(FORMATS[name](rows).encode())
        path.write_bytes(data[: len(data) // 2])
        tally = ReasonCounter()
        found = rows_of(open_table(path, count=tally))
        assert len(found) > 15_000
        assert found == [(n, rows[n][0], [rows[n][1]]) for n in range(len(found))]
        assert "the rest of the file cannot be read" in tally.details["damaged_rows"][0]


def image_table(path: Path, form: str, rows: int = 50) -> Path:
    data: list[bytes | None] = [bytes([n]) * (n + 1) for n in range(rows)]
    data[7] = None
    column: Any = pa.array(data, pa.binary())
    if form == "struct":
        paths = pa.array([f"{n}.jpg" for n in range(rows)])
        column = pa.StructArray.from_arrays([column, paths], ["bytes", "path"])
    texts = [[f"caption {n}", f"other {n}"] for n in range(rows)]
    name = "image" if form == "struct" else "jpeg"
    return write(path, {name: column, "captions": texts, "split": ["train"] * rows}, row_group_size=8)


@pytest.mark.parametrize("form", ["binary", "struct"])
def test_images_are_read_for_the_wanted_rows_only(tmp_path: Path, form: str) -> None:
    path = image_table(tmp_path / "t.parquet", form)
    reader = open_table(path)
    assert reader.has_images
    assert reader.columns.url is None
    assert rows_of(reader)[3] == (3, None, ["caption 3", "other 3"])
    wanted = [49, 3, 7, 8, 15, 3, 0]
    assert list(read_images(path, wanted)) == [
        (n, b"" if n == 7 else bytes([n]) * (n + 1)) for n in (0, 3, 7, 8, 15, 49)
    ]
    assert list(read_images(str(path), [])) == []
    assert len(list(read_images(path.as_uri(), range(50)))) == 50


def test_rows_that_are_not_there_and_tables_without_images(tmp_path: Path) -> None:
    path = image_table(tmp_path / "t.parquet", "binary")
    for rows in ([50], [-1]):
        with pytest.raises(OpenWITError, match="has 50 rows"):
            list(read_images(path, rows))
    urls = write(tmp_path / "u.parquet", {"url": ["a"], "text": ["b"]})
    with pytest.raises(OpenWITError, match="holds no image bytes"):
        list(read_images(urls, [0]))
    with pytest.raises(OpenWITError, match="no column with image URLs"):
        open_table(path, TableColumns(image=""))


def test_the_batches_never_touch_the_image_bytes(tmp_path: Path) -> None:
    path = image_table(tmp_path / "t.parquet", "binary")
    meta = pq.ParquetFile(path).metadata
    data = bytearray(path.read_bytes())
    for group in range(meta.num_row_groups):
        chunk = meta.row_group(group).column(0)
        start = min(offset for offset in (chunk.data_page_offset, chunk.dictionary_page_offset) if offset)
        data[start : start + chunk.total_compressed_size] = bytes(chunk.total_compressed_size)
    path.write_bytes(data)
    assert len(rows_of(open_table(path))) == 50
    with pytest.raises(OpenWITError, match="is damaged"):
        list(read_images(path, [0]))


def test_a_damaged_row_group_costs_its_rows_and_the_others_keep_their_numbers(tmp_path: Path) -> None:
    path = write(
        tmp_path / "t.parquet",
        {"url": [f"u{n}" for n in range(30)], "text": [f"t{n}" for n in range(30)]},
        row_group_size=10,
    )
    chunk = pq.ParquetFile(path).metadata.row_group(1).column(1)
    data = bytearray(path.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(data)
    tally = ReasonCounter()
    found = [
        row
        for batch in open_table(path, count=tally).batches()
        for row in range(batch.first_row, batch.first_row + len(batch))
    ]
    assert found == [*range(10), *range(20, 30)]
    assert tally.counts == {"damaged_rows": 10}
    assert "row group 1" in tally.details["damaged_rows"][0]


TEXT = st.one_of(st.none(), st.text(alphabet="ab \t\u3000\u00e9", max_size=5))


@given(st.lists(TEXT, max_size=20), st.lists(st.one_of(st.none(), st.lists(TEXT, max_size=4)), max_size=20))
def test_texts_are_what_a_loop_would_give(singles: list[str | None], lists: list[list[str | None] | None]) -> None:
    length = min(len(singles), len(lists))
    singles, lists = singles[:length], lists[:length]
    expected_singles = [[text] if text and text.strip() else [] for text in singles]
    expected_lists = [[text for text in texts or [] if text and text.strip()] for texts in lists]
    strings = pa.array(singles, pa.string())
    many = pa.array(lists, pa.large_list(pa.string()))
    assert texts_of_rows([strings]).to_pylist() == expected_singles
    assert texts_of_rows([strings.dictionary_encode()]).to_pylist() == expected_singles
    assert texts_of_rows([many]).to_pylist() == expected_lists
    both = [single + several for single, several in zip(expected_singles, expected_lists, strict=True)]
    assert texts_of_rows([strings, many]).to_pylist() == both


def test_slices_of_lists() -> None:
    column = pa.array([["a"], ["b", ""], None, ["c"]]).slice(1, 2)
    assert texts_of_rows([column]).to_pylist() == [["b"], []]


@pytest.mark.parametrize(
    ("name", "is_table"),
    [("a.parquet", True), ("A.CSV.GZ", True), ("a.jsonl", True), ("a.warc.gz", False), ("a", False)],
)
def test_is_table_name(name: str, is_table: bool) -> None:
    assert is_table_name(name) is is_table


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is missing")
@pytest.mark.parametrize(
    ("name", "rows", "texts", "url", "images"),
    [
        ("captions", 45014, ("text",), "url", False),
        ("photos", 1966, ("title",), "image_url", True),
        ("flickr8k_128", 6661, ("captions",), None, True),
    ],
)
def test_real_tables(name: str, rows: int, texts: tuple[str, ...], url: str | None, images: bool) -> None:
    path = DATA / f"{name}.parquet"
    reader = open_table(path)
    assert (reader.columns.texts, reader.columns.url, reader.has_images) == (texts, url, images)
    assert sum(len(batch) for batch in reader.batches()) == rows
    if images:
        assert all(data.startswith(b"\xff\xd8") for _, data in read_images(path, [0, rows // 2, rows - 1]))
