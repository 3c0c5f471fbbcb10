"""Pairs sorted by chunk: all of them, and in time linear in their files."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.rows import candidate

from openwit.pipeline.common.host_buckets import host_bucket, place
from openwit.pipeline.stages.fetch import grouping
from openwit.pipeline.stages.fetch.grouping import ChunkReader, group_pairs, plan_fetch
from openwit.pipeline.stages.fetch.plan import make_plan, runs_of_buckets
from openwit.schemas.tables.candidates import SELECTED


def selected_files(folder: Path, files: int, rows: int) -> list[Path]:
    paths = []
    for n in range(files):
        pairs = []
        for k in range(rows):
            url = f"http://h{(n * 7 + k) % 97}.org/{n}-{k}.jpg"
            drawn = {"query_ids": [0], "drawn_by": [0], "priority": 0.5}
            pairs.append(candidate(url, "a") | drawn | {"host_bucket": host_bucket(url, False, "", 0)})
        pairs.sort(key=lambda row: row["host_bucket"])
        paths.append(folder / f"{n:05d}.parquet")
        SELECTED.write(paths[-1], pa.Table.from_pylist(pairs, schema=SELECTED.arrow), row_group_size=4)
    return paths


class Counted:
    """Opened files, and rows read of them."""

    def __init__(self, monkeypatch):
        self.opens = self.rows = 0
        real = grouping.open_parquet

        def open_parquet(path):
            self.opens += 1
            file = real(path)
            for name in ("read_row_group", "read_row_groups", "read"):
                setattr(file, name, self._counting(getattr(file, name)))
            return file

        monkeypatch.setattr(grouping, "open_parquet", open_parquet)

    def _counting(self, read):
        def reading(*arguments, **named):
            table = read(*arguments, **named)
            self.rows += table.num_rows
            return table

        return reading


def fetch_all(job, folder: Path, paths, *, task: int, chunk: int):
    """Group files and read every chunk of every task; return the plan and the URLs of each chunk."""
    plan, pieces = plan_fetch(job, folder / "g", paths, task=task, chunk=chunk)
    cells = group_pairs(job, folder / "g", plan, pieces)
    read = {}
    for part in plan.tasks:
        reader = ChunkReader(cells)
        read |= {n: sorted(reader.read(n).column("url").to_pylist()) for n in range(part.first, part.end)}
    return plan, cells, read


@pytest.mark.parametrize("files", [1, 3, 40])
def test_every_pair_is_in_one_chunk_and_every_host_in_one_task(tmp_path, job, monkeypatch, files):
    monkeypatch.setattr(grouping, "FAN_IN", 3)
    monkeypatch.setattr(grouping, "PART_PAIRS", 25)
    monkeypatch.setattr(grouping, "_ROW_GROUP", 5)
    plan, cells, read = fetch_all(job, tmp_path, selected_files(tmp_path / "s", files, 20), task=60, chunk=20)
    assert sorted(url for urls in read.values() for url in urls) == sorted(
        f"http://h{(n * 7 + k) % 97}.org/{n}-{k}.jpg" for n in range(files) for k in range(20)
    )
    assert [cell.first for cell in cells] == [0, *(cell.end for cell in cells)][:-1]
    assert cells[-1].end == plan.end
    assert max(len(cell.files) for cell in cells) <= 3
    tasks = {}
    for number, task in enumerate(plan.tasks):
        for chunk in range(task.first, task.end):
            for url in read[chunk]:
                tasks.setdefault(url.split("/")[2], set()).add(number)
    assert all(len(numbers) == 1 for numbers in tasks.values())
    assert sum(task.pairs for task in plan.tasks) == 20 * files


def test_opened_files_and_rows_read_grow_with_the_files_not_with_files_times_tasks(tmp_path, job, monkeypatch):
    monkeypatch.setattr(grouping, "FAN_IN", 4)
    monkeypatch.setattr(grouping, "PART_PAIRS", 40)
    monkeypatch.setattr(grouping, "_ROW_GROUP", 8)
    cost = []
    for files in (20, 40, 80):
        paths = selected_files(tmp_path / f"s{files}", files, 20)
        with pytest.MonkeyPatch.context() as patch:
            counted = Counted(patch)
            plan, _, _ = fetch_all(job, tmp_path / f"f{files}", paths, task=80, chunk=20)
        cost.append((counted.opens / files, counted.rows / (20 * files), len(plan.tasks)))
    assert cost[2][2] >= 3 * cost[0][2], "the tasks grow too"
    opens, rows = [row[0] for row in cost], [row[1] for row in cost]
    # A round more costs a constant for each file; opening every file in every task would double with each doubling.
    assert max(opens) <= 1.5 * opens[0]
    assert max(rows) <= 1.5 * rows[0]


@given(st.lists(st.integers(0, 60), max_size=40), st.integers(1, 80))
def test_tasks_hold_every_bucket_once_and_whole(counts, target):
    """All URLs of a host share a bucket, so no host is asked by two tasks."""
    runs = runs_of_buckets(np.array(counts, np.int64), target)
    buckets = [bucket for first, last in runs for bucket in range(first, last + 1)]
    assert buckets == sorted(set(buckets))
    assert sum(counts[bucket] for bucket in buckets) == sum(counts)
    assert all(sum(counts[first : last + 1]) >= target for first, last in runs[:-1])


@given(st.integers(1, 5000), st.integers(1, 400))
def test_a_large_host_is_a_sequence_of_chunks(pairs, chunk):
    plan = make_plan(np.array([0, pairs]), task=1, chunk=chunk)
    places = np.array([place(f"http://a.org/{n}", False, "", 0) for n in range(pairs)], np.uint64)
    sizes = Counter(plan.chunks_of(np.ones(pairs, np.int64), places).tolist())
    assert set(sizes) <= set(range(plan.end))
    assert plan.end == max(1, round(pairs / chunk))
    expected = pairs / plan.end
    assert all(abs(sizes[n] - expected) <= 7 * expected**0.5 + 7 for n in range(plan.end))


def test_neighbours_of_a_table_are_fetched_together():
    names = [(f"table:a#{n}", True, "a.parquet", n) for n in range(3000)]
    assert len({host_bucket(*name) for name in names}) == len({place(*name) for name in names}) == 3
