"""Stage queries: the query list."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.stages.base import QUERY_LIST, BuildContext, Inputs, Stage, StagePaths
from openwit.pipeline.stages.queries.settings import QuerySettings

if TYPE_CHECKING:
    from openwit.pipeline.execution.stage import Job, StageResult


class QueriesPaths(StagePaths):
    """Paths in the folder of the stage queries."""

    @property
    def queries(self) -> Path:
        """Return the path of `QUERIES`: the query list."""
        return self.folder / "queries.parquet"


class Queries(Stage[QuerySettings]):
    """Make the query list: words, bigrams, titles, synsets and your own lists (paper section 2.2)."""

    name = "queries"
    version = 4
    settings = QuerySettings
    summary = "make the query list from words, bigrams, titles, synsets and your own lists"
    output = QUERY_LIST
    paths = QueriesPaths

    def reasons(self) -> Sequence[Reason]:
        from openwit.pipeline.stages.queries.stage import QUERIES_REASONS

        return QUERIES_REASONS

    def check_inputs(self, settings: QuerySettings) -> None:
        from openwit.pipeline.stages.queries.stage import source_identity

        source_identity(settings)

    def identity(self, settings: QuerySettings, inputs: Inputs, build: BuildContext) -> dict[str, str]:
        from openwit.pipeline.stages.queries.stage import source_identity

        return super().identity(settings, inputs, build) | source_identity(settings)

    def execute(
        self, job: Job, settings: QuerySettings, inputs: Inputs, folder: Path, build: BuildContext
    ) -> StageResult:
        from openwit.pipeline.stages.queries.stage import make_queries

        return make_queries(job, settings, folder)
