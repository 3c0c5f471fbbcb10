"""Finished stages made by hand, so that each stage is tested on its own."""

from pathlib import Path

import pytest
from rich.console import Console

from pipeline.columnar.files import file_entry
from pipeline.columnar.runner import Runner
from pipeline.columnar.stage import Job, Outcome, run_stage
from schemas.candidates import CANDIDATES
from schemas.manifest import FunnelStep
from schemas.queries import QUERIES


@pytest.fixture
def job():
    return Job(Runner(), Console(quiet=True))


@pytest.fixture
def make_queries(job):
    def make(folder: Path, queries):
        def body():
            n = len(queries)
            columns = {"query_id": list(range(n)), "query": queries, "source": ["table"] * n}
            table = QUERIES.table({**columns, "count": [None] * n, "pmi": [None] * n, "views": [None] * n})
            QUERIES.write(folder / "queries.parquet", table)
            return Outcome(files=[file_entry(folder, folder / "queries.parquet")])

        run_stage(job, folder, "queries", 1, {}, {}, body)
        return folder / "queries.parquet"

    return make


@pytest.fixture
def make_candidates(job):
    def make(folder: Path, files):
        def body():
            outcome = Outcome()
            for n, rows in enumerate(files):
                path = folder / "candidates" / f"{n:05d}.parquet"
                table = CANDIDATES.table({c: [row[c] for row in rows] for c in CANDIDATES.arrow.names})
                CANDIDATES.write(path, table)
                outcome.files.append(file_entry(folder, path))
            total = sum(map(len, files))
            outcome.funnel.append(FunnelStep(stage="candidates", unit="pairs", rows_in=total, rows_out=total))
            return outcome

        run_stage(job, folder, "candidates", 1, {}, {}, body)
        return folder

    return make
