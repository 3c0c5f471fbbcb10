"""Sums of the download log by host: merged a few rows at a time, whatever the number of URLs and tasks."""

import numpy as np
import pyarrow as pa
import pytest

from openwit.pipeline.stages.fetch import hosts
from openwit.pipeline.stages.fetch.hosts import HOSTS, HostSums, worst_hosts, write_hosts, write_task_hosts
from openwit.pipeline.stages.fetch.log import FETCH_LOG


def log_of(rows: list[tuple[str, str, float]]) -> pa.Table:
    return FETCH_LOG.table(
        {
            "url": [f"http://{row[0]}/{n}" for n, row in enumerate(rows)],
            "host": [row[0] for row in rows],
            "status": [row[1] for row in rows],
            "http_status": [None for _ in rows],
            "bytes": [5 if row[1] == "success" else 0 for row in rows],
            "milliseconds": [row[2] for row in rows],
            "attempts": [1 for _ in rows],
        }
    )


def test_percentiles_leave_out_what_was_not_sent():
    sums = HostSums()
    sums.add(log_of([("a", "success", 10.0), ("a", "timeout", 30.0), ("a", "host_unreachable", 0.0)]))
    (host,) = sums.rows()
    assert (host["urls"], host["ok"], host["bytes"], host["p50_ms"]) == (3, 1, 5, pytest.approx(20.0, rel=0.01))
    assert [f["reason"] for f in host["failures"]] == ["host_unreachable", "timeout"]


def test_percentiles_are_those_of_all_times_to_one_per_cent():
    times = np.random.default_rng(0).lognormal(5, 2, 5000).astype(np.float32)
    sums = HostSums()
    for part in np.array_split(times, 7):
        sums.add(log_of([("a", "success", float(time)) for time in part]))
    (host,) = sums.rows()
    assert [host["p50_ms"], host["p95_ms"]] == pytest.approx(np.percentile(times, [50, 95]).tolist(), rel=0.01)


def test_the_hosts_of_many_tasks_are_merged_in_rounds(tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "_FAN_IN", 3)
    monkeypatch.setattr(hosts, "_ROW_GROUP", 2)
    names = [f"h{n:02d}.org" for n in range(40)]
    parts = []
    for task in range(13):
        logs = []
        for chunk in range(2):
            rows = [(name, "timeout" if n % 5 == chunk else "success", 9.0) for n, name in enumerate(names[task::13])]
            logs.append(tmp_path / f"{task}-{chunk}.parquet")
            FETCH_LOG.write(logs[-1], log_of(rows))
        parts.append(write_task_hosts(tmp_path, f"{task:05d}", logs))
    read, open_files = hosts._read, []
    monkeypatch.setattr(hosts, "_merged", lambda group: (open_files.append(len(group)), merged(group))[1])
    merged = lambda group: iter(sorted((row for part in group for row in read(part)), key=lambda row: row["host"]))  # noqa: E731
    write_hosts(tmp_path / "sorted.parquet", parts, tmp_path / "scratch")
    assert max(open_files) == 3
    monkeypatch.undo()
    write_hosts(tmp_path / "hosts.parquet", parts, tmp_path / "scratch")
    assert HOSTS.read(tmp_path / "hosts.parquet") == HOSTS.read(tmp_path / "sorted.parquet")
    rows = HOSTS.read(tmp_path / "hosts.parquet").to_pylist()
    assert [row["host"] for row in rows] == names
    assert {row["urls"] for row in rows} == {2}
    worst, number = worst_hosts(tmp_path / "hosts.parquet", 3)
    assert ([row["host"] for row in worst], number) == (names[:3], 40)
    write_hosts(tmp_path / "none.parquet", [], tmp_path / "scratch")
    assert worst_hosts(tmp_path / "none.parquet") == ([], 0)


def test_memory_grows_with_hosts_not_with_urls():
    sums = HostSums()
    for _ in range(20):
        sums.add(log_of([("a", "success", 1.0 + n % 500) for n in range(1000)]))
    (state,) = sums._hosts.values()
    assert len(state.times) < 300
    assert sums.rows()[0]["urls"] == 20_000
