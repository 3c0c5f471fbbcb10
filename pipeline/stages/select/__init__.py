"""Stage select: search every query in every caption, and balance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.stages.base import (
    CANDIDATES,
    DEAD,
    QUERY_LIST,
    SELECTED,
    BuildContext,
    Inputs,
    Port,
    Stage,
    StagePaths,
)
from openwit.pipeline.stages.select.settings import SelectSettings

if TYPE_CHECKING:
    from openwit.pipeline.execution.stage import Job, StageManifest, StageResult


class DrawPaths(StagePaths):
    """Paths of a stage that lets queries draw pairs: select, and redraw."""

    def draws(self, task: str) -> Path:
        """Return the path of a task's `QUERY_DRAWS`: what its pairs add to each query's counts."""
        return self.folder / "draws" / f"{task}.parquet"

    @property
    def threshold_buckets(self) -> Path:
        """Folder with a file of `THRESHOLDS` per bucket of queries."""
        return self.folder / "thresholds"

    @property
    def thresholds(self) -> Path:
        """Return the path of each query's threshold as NumPy array, float64 (Q,)."""
        return self.folder / "thresholds.npy"


class SelectPaths(DrawPaths):
    """Paths in the folder of the stage select."""

    def matches(self, task: str) -> Path:
        """Return the path of the `MATCHES` of a candidates file."""
        return self.folder / "matches" / f"{task}.parquet"

    def verdicts(self, task: str) -> Path:
        """Return the path of the `VERDICTS` of a candidates file."""
        return self.folder / "verdicts" / f"{task}.parquet"

    def samples(self, task: str) -> Path:
        """Return the path of the `PAIR_SAMPLES` of a candidates file."""
        return self.folder / "samples" / f"{task}.parquet"

    @property
    def selected(self) -> Path:
        """Folder with the files of `SELECTED`."""
        return self.folder / "selected"

    def match_files(self) -> list[Path]:
        """Return the finished files of `MATCHES`."""
        return self.files(self.folder / "matches")


class Select(Stage[SelectSettings]):
    """Search every query in every caption, keep each pair once, and let each query draw up to its cap."""

    name = "select"
    version = 4
    settings = SelectSettings
    summary = "search every query in every caption and draw up to the cap per query"
    inputs = (
        Port("candidates", CANDIDATES, "the pool; several steps or folders are one pool", several=True),
        Port("queries", QUERY_LIST, "what to search for; with `balance: all` it may be left out", takes_file=True),
        Port("reuse", SELECTED, "an earlier selection, whose matches are taken over", optional=True),
        Port("dead", DEAD, "pairs that are in the pool no more", optional=True, takes_file=True),
    )
    output = SELECTED
    paths = SelectPaths
    neutral: ClassVar = {"balance": "all"}
    neutral_meaning = "every pair is kept, once"
    shorthands: ClassVar = {"all": {"balance": "all"}}

    def reasons(self) -> Sequence[Reason]:
        from openwit.pipeline.stages.select.reasons import SELECT_REASONS

        return SELECT_REASONS

    def needs(self, settings: SelectSettings, port: Port) -> bool:
        return super().needs(settings, port) and not (port.name == "queries" and settings.balance == "all")

    def problem(self, settings: SelectSettings, later: Sequence[Stage[Any]]) -> str | None:
        if settings.balance == "all" and any(stage.name == "redraw" for stage in later):
            return "balance is all, which draws nothing, so that nothing can be drawn again: leave out `redraw`"
        if settings.oversample > 1 and not any(stage.name == "redraw" for stage in later):
            return (
                f"oversample is {settings.oversample:g}, but nothing draws again after the download: "
                "add `- redraw: {}` after dedup"
            )
        return None

    def shared(self, settings: SelectSettings) -> Mapping[str, Mapping[str, Any]]:
        return {"queries": {"match": settings.match}}

    def identity(self, settings: SelectSettings, inputs: Inputs, build: BuildContext) -> dict[str, str]:
        # Reused matches change how long a selection takes, but not its result.
        every = super().identity(settings, inputs, build)
        return {port: value for port, value in every.items() if port != "reuse"}

    def history(self, inputs: Inputs) -> list[StageManifest]:
        from openwit.pipeline.common.column_types import COLUMNS, columns_of
        from openwit.pipeline.execution.stage import merge_records

        pools = [upstream.stage_manifest() for upstream in inputs.several("candidates")]
        candidates = merge_records(pools)
        if columns := columns_of((pool.record().step_name(), pool.extra) for pool in pools):
            candidates = candidates.model_copy(update={"extra": {**candidates.extra, COLUMNS: columns}})
        queries = [upstream.manifest for upstream in inputs.several("queries") if upstream.manifest is not None]
        return [*queries, candidates]

    def execute(
        self, job: Job, settings: SelectSettings, inputs: Inputs, folder: Path, build: BuildContext
    ) -> StageResult:
        from openwit.pipeline.stages.select.stage import select_pairs

        return select_pairs(job, settings, inputs, folder)
