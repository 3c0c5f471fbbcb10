"""Finished stages made by hand, so that each stage is tested on its own."""

from pathlib import Path

import pyarrow as pa
import pytest
from support.picture_web import Web
from support.rows import candidate

from openwit.pipeline.execution.files import file_entry
from openwit.pipeline.execution.runners import make_engine
from openwit.pipeline.execution.stage import Job, StageResult, run_stage
from openwit.pipeline.stages.fetch import stage as fetch
from openwit.schemas.manifest import FunnelStep
from openwit.schemas.tables.candidates import CANDIDATES, SELECTED
from openwit.schemas.tables.queries import QUERIES


@pytest.fixture
def job():
    return Job(make_engine("local", 1))


@pytest.fixture
def make_queries(job):
    def make(folder: Path, queries):
        def body():
            n = len(queries)
            columns = {"query_id": list(range(n)), "query": queries, "source": ["table"] * n}
            table = QUERIES.table({**columns, "count": [None] * n, "pmi": [None] * n, "views": [None] * n})
            QUERIES.write(folder / "queries.parquet", table)
            return StageResult(files=[file_entry(folder, folder / "queries.parquet")])

        run_stage(job, folder, "queries", 1, {}, {}, body)
        return folder / "queries.parquet"

    return make


@pytest.fixture
def make_candidates(job):
    def make(folder: Path, files):
        def body():
            result = StageResult()
            for n, rows in enumerate(files):
                path = folder / "candidates" / f"{n:05d}.parquet"
                table = CANDIDATES.table({c: [row[c] for row in rows] for c in CANDIDATES.arrow.names})
                CANDIDATES.write(path, table)
                result.files.append(file_entry(folder, path))
            total = sum(map(len, files))
            result.funnel.append(FunnelStep(stage="candidates", unit="pairs", rows_in=total, rows_out=total))
            return result

        run_stage(job, folder, "candidates", 1, {}, {}, body)
        return folder

    return make


@pytest.fixture
def web():
    server = Web()
    yield server
    server.stop()


@pytest.fixture
def select(job):
    """Makes a finished select folder: {host bucket: URLs}, two texts for every third URL."""

    def make(folder: Path, buckets):
        rows = []
        for bucket, urls in sorted(buckets.items()):
            for n, url in enumerate(urls):
                for text in ("a wren", "a small wren")[: 1 + (n % 3 == 0)]:
                    drawn = {"query_ids": [0], "drawn_by": [0], "priority": 0.5, "host_bucket": bucket}
                    rows.append({**candidate(url, text), **drawn})

        def body():
            path = folder / "selected" / "00000.parquet"
            SELECTED.write(path, pa.Table.from_pylist(rows, schema=SELECTED.arrow))
            (folder / "query_counts.parquet").write_bytes(b"")
            line = FunnelStep(stage="select", unit="pairs", rows_in=len(rows), rows_out=len(rows))
            return StageResult(files=[file_entry(folder, path)], funnel=[line])

        run_stage(job, folder, "select", 1, {}, {}, body)
        return folder

    return make


@pytest.fixture
def no_query_counts(monkeypatch):
    """Select folders made by hand have no counts to carry on."""
    monkeypatch.setattr(fetch, "copy_query_counts", lambda *_: [])
