"""Lists of queries as other programs write them."""

import gzip
import json
import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openwit.pipeline.stages.queries.sources import read_query_table
from openwit.schemas.common.errors import DataError

CASES = Path(__file__).parents[3] / "data" / "cases"


@pytest.mark.parametrize(
    ("name", "queries"),
    [
        ("queries-list-shapes/bom.txt", ["red kite", "blue whale"]),
        ("queries-list-shapes/comma.csv", ["Paris, Texas", "red kite"]),
        ("queries-list-shapes/latin1.txt", ["café", "hôtel de ville", "crème brûlée", "plage"]),
        ("queries-list-shapes/na.csv", ["NA", "null", "nan", "True", "Infinity war"]),
        ("queries-list-shapes/numbers.csv", ["007", "1984", "090"]),
        ("queries-list-shapes/quoted.tsv", ["red kite", 'the "big" apple']),
        ("queries-list-shapes/utf16.txt", ["red kite", "blue whale"]),
        ("utf16-tables/queries.csv", ["red kite"]),
    ],
)
def test_every_shape_gives_its_queries(name, queries):
    assert [query for query in read_query_table(CASES / name) if query] == queries


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("metadata.json", json.dumps(["red kite", "Ünter", "007"])),
        ("pretty.json", json.dumps(["red kite", "Ünter", "007"], indent=1, ensure_ascii=False)),
        ("objects.json", json.dumps([{"query": "red kite"}, {"query": "Ünter", "n": 1}, {"query": "007"}])),
        ("lines.jsonl", '"red kite"\n"Ünter"\n\n"007"\n'),
        ("lines.json", '{"query": "red kite"}\n{"query": "Ünter"}\n{"query": "007"}\n'),
        ("bom.json", "\ufeff" + json.dumps(["red kite", "Ünter", "007"])),
        ("q.txt", "red kite\r\nÜnter\r\n\r\n007\r\n"),
        ("mac.txt", "red kite\rÜnter\r007\r"),
        ("q", "red kite\nÜnter\n007"),
        ("q.csv", "n;query\n1;red kite\n2;Ünter\n3;007\n"),
        ("q.tsv", "query\tn\nred kite\t1\nÜnter\t2\n007\t3\n"),
    ],
)
@pytest.mark.parametrize("codec", ["utf-8", "utf-16", "cp1252"])
@pytest.mark.parametrize("packed", [False, True])
def test_every_format_and_charset(tmp_path, name, data, codec, packed):
    if codec == "cp1252" and data.startswith("\ufeff"):
        data = data[1:]
    path = tmp_path / (name + ".gz" if packed else name)
    raw = data.encode(codec)
    path.write_bytes(gzip.compress(raw) if packed else raw)
    assert read_query_table(path) == ["red kite", "Ünter", "007"]


def test_a_column_of_parquet(tmp_path):
    pq.write_table(pa.table({"query": pa.array(["red kite", "007"], pa.large_string())}), tmp_path / "q.parquet")
    assert read_query_table(tmp_path / "q.parquet") == ["red kite", "007"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("q.xlsx", b"PK", "is of an unknown kind by its name: use .txt"),
        ("q.yaml", b"- red", "is of an unknown kind by its name"),
        ("q.json", b'[{"query": ["a"]}]', "where a query should be"),
        ("q.json", b"[1, true]", "holds 'True' where a query should be"),
        ("q.jsonl", b'"a"\n{broken\n', "line 2"),
        ("q.csv", b"word\nred\n", r"has no column 'query' \(it has: word\)"),
        ("q.txt.gz", gzip.compress(b"red kite\n" * 99, mtime=0)[:25], "cannot be read"),
    ],
)
def test_what_is_no_list_is_one_sentence(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message) as refused:
        read_query_table(tmp_path / name)
    assert "\n" not in str(refused.value)


def test_a_guessed_charset_is_said(tmp_path, caplog):
    (tmp_path / "q.txt").write_bytes("crème brûlée\n".encode("cp1252"))
    with caplog.at_level(logging.WARNING):
        read_query_table(tmp_path / "q.txt")
    assert "q.txt: read as cp1252, which nothing declares" in caplog.text


def test_a_raw_list_of_500_000_stays_whole(tmp_path):
    queries = [f"Query {n}" for n in range(500_000)]
    (tmp_path / "metadata.json").write_text(json.dumps(queries))
    assert read_query_table(tmp_path / "metadata.json") == queries


def test_only_line_ends_end_a_query(tmp_path):
    (tmp_path / "q.txt").write_text("red\u2028kite\nblue\x0cwhale\n", "utf-8")
    assert read_query_table(tmp_path / "q.txt") == ["red\u2028kite", "blue\x0cwhale"]


def test_tables_of_queries_with_repeated_or_unused_columns(tmp_path, caplog):
    (tmp_path / "twice.csv").write_text("query,query\na,b\n")
    twice = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["query", "query"])
    pq.write_table(twice, tmp_path / "twice.parquet")
    for name in ("twice.csv", "twice.parquet"):
        with pytest.raises(DataError, match=f"{name} has 2 columns called 'query': give each its own name"):
            read_query_table(tmp_path / name)
    (tmp_path / "counted.csv").write_text("query,count\nred kite,10\n")
    pq.write_table(pa.table({"query": ["red kite"], "Freq": [3]}), tmp_path / "counted.parquet")
    for name in ("counted.csv", "counted.parquet"):
        assert read_query_table(tmp_path / name) == ["red kite"]
    assert [record.getMessage().rpartition("/")[2] for record in caplog.records] == [
        "counted.csv: column 'count' is not used: only `query` is read",
        "counted.parquet: column 'Freq' is not used: only `query` is read",
    ]


def test_an_object_without_queries_is_named(tmp_path):
    (tmp_path / "q.json").write_text('{"q": ["a", "b"]}')
    with pytest.raises(DataError, match=r"holds an object without `query` \(it has: 'q'\): give a list of texts"):
        read_query_table(tmp_path / "q.json")


def test_a_parquet_list_in_another_charset_is_decoded(tmp_path, caplog):
    values = pa.array([b"caf\xe9 noir", b"tea"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"query": values}), tmp_path / "q.parquet")
    assert read_query_table(tmp_path / "q.parquet") == ["café noir", "tea"]
    assert "1 value not in UTF-8 read as cp1252" in caplog.text
