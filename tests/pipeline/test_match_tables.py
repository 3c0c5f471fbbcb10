"""Matching of tables without a build: every row has its line, ids are positions in the list, counts as MetaCLIP's."""

import json
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import openwit
from openwit.pipeline.cli.main import app
from openwit.schemas.common.errors import DataError, RecipeError

ENTRIES = ["kite", "red kite", "Wren", "wren", "U.S.", "heron"]
TEXTS = [["A red kite"], ["a Wren, a kite"], [], ["wren", "a wren and a red kite"], ["THE WREN"]]


def write(folder, form):
    """A table of rows with some texts each, and the list as MetaCLIP writes it."""
    (folder / "metadata.json").write_text(json.dumps(ENTRIES))
    path = folder / f"captions.{form}"
    if form == "parquet":
        pq.write_table(pa.table({"uid": [f"u{n}" for n in range(5)], "texts": TEXTS}), path, row_group_size=2)
    elif form == "jsonl":
        path.write_text("".join(json.dumps({"uid": f"u{n}", "texts": t}) + "\n" for n, t in enumerate(TEXTS)))
    else:
        path.write_text("uid,text\n" + "".join(f'u{n},"{" ".join(t)}"\n' for n, t in enumerate(TEXTS)))
    return path


@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv"])
def test_rows_keep_their_number_and_key_and_ids_are_positions(tmp_path, form):
    path = write(tmp_path, form)
    out = tmp_path / "out" / "matches.parquet"
    report = openwit.match(path, tmp_path / "metadata.json", out, match="metaclip")
    rows = pq.read_table(out).to_pylist()
    assert [(row["row"], row["key"]) for row in rows] == [(n, f"u{n}") for n in range(5)]
    assert [row["query_ids"] for row in rows] == [[0, 1], [0, 2], [], [0, 1, 3], []]
    assert (report.rows, report.matched, report.queries, report.found) == (5, 3, 6, 4)
    assert {row["table"] for row in rows} == {str(path)}
    report = openwit.match(path, tmp_path / "metadata.json", tmp_path / "m.jsonl", form="jsonl", workers=1)
    lines = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert [line["query_ids"] for line in lines] == [[0, 1], [0, 2, 3], [], [0, 1, 2, 3], [2, 3]]


def test_entry_counts_are_written_and_read_as_metaclip_keeps_them(tmp_path):
    path = write(tmp_path, "parquet")
    listed, out = tmp_path / "metadata.json", tmp_path / "m.parquet"
    openwit.match(path, listed, out, match="metaclip", counts=tmp_path / "entry_counts.json")
    counts = json.loads((tmp_path / "entry_counts.json").read_text())
    # As MetaCLIP's demo reads it; a text counts once, also where its row has another that matches.
    assert [counts[entry] for entry in ENTRIES] == [3, 2, 1, 2, 0, 0]
    for earlier in ("entry_counts.json", "entry_count.npy"):
        again = tmp_path / "entry_count.npy"
        openwit.match(path, listed, out, match="metaclip", counts=again, earlier_counts=tmp_path / earlier)
    found = np.load(again)
    assert found.dtype == np.uint64
    assert found.tolist() == [9, 6, 3, 6, 0, 0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.json", b'{"eagle": 3}', "name 'eagle', which is not in the query list"),
        ("c.json", b"[1, 2]", "are of 2 queries, but the list has 6"),
        ("c.json", b'{"kite": -1}', "whole numbers from 0"),
        ("c.json", b'{"kite": "x"}', "whole numbers from 0"),
        ("c.json", b"oops", "are no JSON"),
        ("c.npy", b"oops", "cannot be read"),
        ("c.txt", b"", "written to .json"),
    ],
)
def test_wrong_entry_counts_are_one_sentence(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    path = write(tmp_path, "csv")
    with pytest.raises((DataError, RecipeError), match=message):
        openwit.match(path, tmp_path / "metadata.json", tmp_path / "m.parquet", earlier_counts=tmp_path / name)
    assert not (tmp_path / "m.parquet").exists()


def test_the_command_and_what_it_refuses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "parquet")

    def wit(*flags):
        return CliRunner().invoke(app, ["match", *flags, "--queries", "metadata.json"], catch_exceptions=True)

    done = wit("captions.parquet", "--out", "m.parquet", "--match", "metaclip", "--counts", "n.json")
    assert done.exit_code == 0, done.output
    assert "Matched 3 of 5 rows (5 texts) with 4 of 6 queries" in done.output.replace("\n", " ")
    for flags, message in {
        ("captions.parquet", "--out", "captions.parquet"): "is one of the tables that are read",
        ("captions.parquet", "--out", str(tmp_path / "captions.parquet")): "is one of the tables that are read",
        ("captions.parquet", "--out", "metadata.json"): "is the query list that is read",
        ("captions.parquet", "--out", "x.parquet", "--counts", "metadata.json"): "is the query list that is read",
        ("captions.parquet", "--out", "x.json", "--counts", "./x.json"): "is named by out too",
        ("captions.parquet", "--out", "x.parquet", "--text", "none"): "has no column 'none'",
        ("nothing.parquet", "--out", "x.parquet"): "does not exist",
    }.items():
        assert message in str(wit(*flags).exception)


def test_memory_does_not_grow_with_the_table(tmp_path):
    (tmp_path / "q.txt").write_text("kite\n")
    peaks = []
    for rows in (80_000, 320_000):
        pq.write_table(pa.table({"text": ["a kite"] * rows}), tmp_path / "t.parquet")
        tracemalloc.start()
        assert openwit.match(tmp_path / "t.parquet", tmp_path / "q.txt", tmp_path / "m.parquet").matched == rows
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] + (1 << 20)
