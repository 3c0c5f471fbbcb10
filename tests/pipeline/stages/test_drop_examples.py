"""Examples of dropped pairs: five of a reason, always the same, from a bounded number of rows."""

import pyarrow as pa
import pyarrow.parquet as pq

from openwit.pipeline.stages import drop_examples
from openwit.pipeline.stages.drop_examples import examples_of, write_drop_examples
from openwit.schemas.tables.candidates import DROP_EXAMPLES, DROPS


def write_drops(folder, rows, files=1, row_group_size=1000):
    """Writes rows of (reason, url, text) over some files."""
    (folder / "drops").mkdir(parents=True)
    for n in range(files):
        part = rows[n::files]
        columns = {
            "pair_id": [None] * len(part), "reason": [row[0] for row in part], "url": [row[1] for row in part],
            "text": [row[2] for row in part], "detail": [None] * len(part),
        }  # fmt: skip
        path = folder / "drops" / f"{n:05d}.parquet"
        pq.write_table(pa.table(columns, schema=DROPS.arrow), path, row_group_size=row_group_size)
    return folder


def rows_of(reason, n):
    return [(reason, f"http://a.org/{reason}/{k}.jpg", f"text {k}") for k in range(n)]


def test_five_of_each_reason_whatever_the_files(tmp_path):
    rows = [*rows_of("too_short", 40), *rows_of("language", 3), *rows_of("opted_out", 9), *rows_of("removed", 9)]
    first = write_drops(tmp_path / "a", rows)
    again = write_drops(tmp_path / "b", rows[::-1], files=4, row_group_size=3)
    assert (
        write_drop_examples({"candidates": first, "none": tmp_path / "nothing"}, tmp_path)[0].path == "drops.parquet"
    )
    written = DROP_EXAMPLES.read(tmp_path / "drops.parquet").to_pylist()
    assert [row["reason"] for row in written] == ["language"] * 3 + ["too_short"] * 5
    assert {row["step"] for row in written} == {"candidates"}
    assert {(row["url"], row["text"]) for row in written} <= {(url, text) for _, url, text in rows}
    write_drop_examples({"candidates": again}, tmp_path)
    assert DROP_EXAMPLES.read(tmp_path / "drops.parquet").to_pylist() == written


def test_long_texts_are_cut_and_reading_is_bounded(tmp_path, monkeypatch):
    folder = write_drops(tmp_path / "a", [("x", "http://a.org/" + "u" * 9000, "t" * 9000)] * 3, files=3)
    (row,) = examples_of("s", drop_examples.StagePaths(folder))
    assert (len(row["url"]), len(row["text"])) == (500, 300)
    many = write_drops(tmp_path / "b", rows_of("x", 900), files=90, row_group_size=5)
    read = []
    opened = pq.ParquetFile.read_row_group

    def counting(self, group, columns=None):
        table = opened(self, group, columns=columns)
        read.append(table.num_rows)
        return table

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counting)
    assert len(examples_of("s", drop_examples.StagePaths(many))) == 5
    assert sum(read) <= 2 * 16 * 10
    monkeypatch.setattr(drop_examples, "_ROWS", 12)
    read.clear()
    examples_of("s", drop_examples.StagePaths(many))
    assert sum(read) <= 2 * 15


def test_nothing_dropped_writes_nothing(tmp_path):
    assert write_drop_examples({"a": write_drops(tmp_path / "a", [])}, tmp_path) == []
    assert not (tmp_path / "drops.parquet").exists()
