"""Parts of a table hold the rows of the whole, with their numbers and the same counts, whatever the size of a part."""

import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openwit.pipeline.common.counting import ReasonCounter
from openwit.pipeline.readers.tables.files import ROW_REASONS
from openwit.pipeline.readers.tables.parquet_tables import parquet_sizes
from openwit.pipeline.readers.tables.settings import TableColumns
from openwit.pipeline.readers.tables.splitting import parquet_ranges, text_ranges
from openwit.pipeline.readers.tables.tables import open_table

HEADER = "url,text\n"
QUOTED = [
    "http://a.org/{n},plain\n",
    'http://a.org/{n},"quoted, with a comma"\n',
    'http://a.org/{n},"lines\nin\nquotes {n}"\r\n',
    'http://a.org/{n},"he said ""hi"" {n}"\n',
    'http://a.org/{n},""\n',
    'http://a.org/{n},"""{n}"""\n',
    'http://a.org/{n},in the "middle"\n',
    'http://a.org/{n},"never closed\n',
    "http://a.org/{n},too,many,columns\n",
    "too few\n",
    "\n",
    "\r\n",
    '"http://a.org/{n}","a, b","c"\n',
    '"http://a.org/{n}"," "\r',
    "\ufeffhttp://a.org/{n},after a mark\n",
    'http://a.org/{n},"wrong" quote "here"\n',
    "http://a.org/{n},Zwei Hunde é 猫 {n}\n",
]
LINES = [
    '{{"url": "http://a.org/{n}", "text": "one {n}"}}\n',
    '{{"url": "http://a.org/{n}", "text": ["a", "b"]}}\r\n',
    '{{"url": "http://a.org/{n}", "text": null, "x": 1}}\n',
    "{{'url': 'http://a.org/{n}', 'text': NaN}}\n",
    "no json\n",
    "\n",
    "[1, 2]\n",
    '\ufeff{{"url": "http://a.org/{n}", "text": "after a mark"}}\n',
]


def read(path, columns, part=None):
    tally = ReasonCounter(10_000)
    rows = []
    for batch in open_table(path, columns, count=tally, part=part).batches():
        urls, texts = batch.url.to_pylist(), batch.texts.to_pylist()
        rows += [(batch.first_row + n, url, text) for n, (url, text) in enumerate(zip(urls, texts, strict=True))]
    return rows, tally


def lost(tallies):
    """Reasons with their numbers and details, notes apart, which are said a part."""
    counts = {reason: sum(t.counts[reason] for t in tallies) for reason in ROW_REASONS}
    return counts, sorted(detail for t in tallies for reason in ROW_REASONS for detail in t.details.get(reason, []))


def check(path, part_bytes, columns=None):
    columns = columns or TableColumns()
    whole, tally = read(path, columns)
    parts = text_ranges(path, columns, part_bytes, tick=lambda _: None)
    found = [read(path, columns, part) for part in parts]
    if parts:
        assert parts[0].start == 0
        assert [part.end for part in parts] == [*(part.start for part in parts[1:]), path.stat().st_size]
        assert [row for rows, _ in found for row in rows] == whole
        assert lost([t for _, t in found]) == lost([tally])
        notes = [
            note for _, t in found for note in t.details.get("read_under_a_guess", []) if "not in UTF-8" not in note
        ]
        assert notes == [n for n in tally.details.get("read_under_a_guess", []) if "not in UTF-8" not in n]
    return parts, whole


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


many = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
sizes = st.integers(1, 400)


def text_of(kinds):
    return "".join(kind.format(n=n) for n, kind in enumerate(kinds))


@many
@given(
    st.lists(st.sampled_from(QUOTED), min_size=1, max_size=25),
    sizes,
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1"]),
    st.booleans(),
)
def test_csv_with_quotes(folder, kinds, part_bytes, codec, blank):
    path = folder / "quoted.csv"
    path.write_bytes(("\n" * blank + HEADER + text_of(kinds)).encode(codec, "replace"))
    check(path, part_bytes)


@many
@given(st.lists(st.sampled_from(QUOTED), min_size=1, max_size=25), sizes, st.booleans())
def test_tsv_without_quotes_and_without_a_header(folder, kinds, part_bytes, named):
    path = folder / "plain.tsv"
    text = (HEADER + text_of(kinds)).replace(",", "\t")
    path.write_bytes((text.partition("\n")[2] if named else text).encode())
    check(path, part_bytes, TableColumns(quotes="text", names=("url", "text") if named else ()))


@many
@given(
    st.lists(st.sampled_from(LINES), min_size=1, max_size=25),
    sizes,
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16-le", "latin-1"]),
)
def test_json_lines(folder, kinds, part_bytes, codec):
    path = folder / "lines.jsonl"
    path.write_bytes((LINES[0].format(n=99) + text_of(kinds)).encode(codec, "replace"))
    check(path, part_bytes)


def test_every_place_is_found_and_no_row_is_cut(folder):
    path = folder / "places.csv"
    path.write_text(HEADER + "".join(f'http://a.org/{n},"a\n{n}"\n' for n in range(50)))
    parts, rows = check(path, 1)
    assert len(rows) == 50
    assert len(parts) == 51  # the header alone, and each row


@pytest.mark.parametrize("codec", ["latin-1", "cp1251"])
def test_one_charset_for_all_parts(folder, codec):
    path = folder / "odd.csv"
    texts = {"latin-1": "Ein schöner Fluß {n} über der Brücke", "cp1251": "Красный дом у реки {n}"}[codec]
    lines = [f"http://a.org/{n},{texts.format(n=n) if n % 3 else 'plain'}\n" for n in range(300)]
    path.write_bytes((HEADER + "".join(lines)).encode(codec))
    parts, rows = check(path, 500)
    assert len(parts) > 5
    assert rows[100][2] == [texts.format(n=100)]


@pytest.mark.parametrize("text", ["", HEADER, HEADER + "http://a.org/1,one", "\n" + HEADER + "a,b\n"])
def test_files_of_a_line_or_none(folder, text):
    path = folder / "small.csv"
    path.write_text(text)
    if text.strip():
        for part_bytes in range(1, len(text) + 2):
            check(path, part_bytes)


def test_a_row_that_no_part_can_hold_ends_the_splitting(folder, monkeypatch):
    path = folder / "long.csv"
    monkeypatch.setattr("openwit.pipeline.readers.tables.text_tables.LONGEST_LINE", 1 << 10)
    rows = [f"http://a.org/{n},text {n}\n" for n in range(200)]
    rows[150] = f"http://a.org/150,{'x' * 5000}\n"
    path.write_text(HEADER + "".join(rows))
    parts, found = check(path, 500)
    assert 2 < len(parts) < 12
    assert len(found) < 200


@many
@given(st.lists(st.integers(0, 40), min_size=1, max_size=8), st.integers(1, 4000), st.integers(1, 30))
def test_parquet_by_rows(folder, groups, part_bytes, text_size):
    path = folder / "rows.parquet"
    schema = pa.schema([("url", pa.string()), ("text", pa.string())])
    row = 0
    with pq.ParquetWriter(path, schema) as writer:
        for rows in groups:
            urls = [f"http://a.org/{row + n}" for n in range(rows)]
            writer.write_table(pa.table([urls, [f"{url} {'x' * text_size}" for url in urls]], schema=schema))
            row += rows
    whole, _ = read(path, TableColumns())
    parts = parquet_ranges(parquet_sizes(path, TableColumns()), part_bytes)
    assert [row for part in parts for row in read(path, TableColumns(), part)[0]] == whole


def test_one_large_row_group_is_divided_and_images_do_not_count(folder):
    path = folder / "one.parquet"
    rows = 50_000
    columns = {"url": [f"http://a.org/{n}" for n in range(rows)], "text": [f"text {n}" for n in range(rows)]}
    pq.write_table(
        pa.table({**columns, "image": [hashlib.sha256(b"%d" % n).digest() for n in range(rows)]}),
        path,
        row_group_size=rows,
        use_dictionary=False,
    )
    sizes = parquet_sizes(path, TableColumns())
    assert sizes[0][1] < path.stat().st_size * 0.8
    parts = parquet_ranges(sizes, sizes[0][1] // 3)
    assert [part.end - part.first for part in parts] == [16_666, 16_667, 16_667]
    assert [row for part in parts for row in read(path, TableColumns(), part)[0]] == read(path, TableColumns())[0]


def test_damage_in_a_row_group_is_counted_once(folder):
    path = folder / "damaged.parquet"
    rows = 60_000
    columns = {"url": [f"http://a.org/{n}" for n in range(rows)], "text": [json.dumps(n) for n in range(rows)]}
    pq.write_table(pa.table(columns), path, row_group_size=40_000, use_dictionary=False, data_page_size=4096)
    data = bytearray(path.read_bytes())
    data[200_000:200_064] = bytes(64)
    path.write_bytes(data)
    whole, tally = read(path, TableColumns())
    found = [read(path, TableColumns(), part) for part in parquet_ranges(parquet_sizes(path, TableColumns()), 60_000)]
    assert len(found) > 3
    assert [row for rows_, _ in found for row in rows_] == whole
    assert sum(t.counts["damaged_rows"] for _, t in found) == tally.counts["damaged_rows"] > 0
