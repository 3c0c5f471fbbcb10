"""Define the stages that rewrite finished datasets: choose samples, and copy them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.rewriting.settings import ChooseSettings, CopySettings, WhereSettings
from openwit.pipeline.stages.base import (
    CANDIDATES,
    DATASET,
    SURVIVORS,
    BuildContext,
    Inputs,
    Kind,
    Port,
    Stage,
    StageRun,
)

if TYPE_CHECKING:
    from openwit.pipeline.execution.stage import Job, StageResult

CHOSEN = Kind("chosen", "openwit.pipeline.rewriting.choose:CHOSEN", "samples of finished datasets that are kept")
CHOOSE = "openwit.pipeline.rewriting.stages.Choose"
COPY = "openwit.pipeline.rewriting.stages.Copy"
WHERE = "openwit.pipeline.rewriting.stages.Where"


def keep_identity(settings: WhereSettings) -> dict[str, str]:
    """Return the identity of the list of uids that the settings name."""
    from openwit.pipeline.execution.stage import file_inputs

    return {} if settings.keep is None else {f"keep {k}": v for k, v in file_inputs([settings.keep]).items()}


class Choose(Stage[ChooseSettings]):
    """Choose among the samples of finished datasets."""

    name = "choose"
    version = 1
    settings = ChooseSettings
    summary = "choose among the samples of finished datasets"
    inputs = (
        Port("candidates", CANDIDATES, "texts that filters passed on", optional=True),
        Port("survivors", SURVIVORS, "images that filters and deduplication passed on", optional=True),
    )
    output = CHOSEN

    def reasons(self) -> Sequence[Reason]:
        from openwit.pipeline.dataset.rewrite_reasons import REWRITE_REASONS
        from openwit.pipeline.stages.meanings import known_reasons

        return (*REWRITE_REASONS, *known_reasons())

    def check_inputs(self, settings: ChooseSettings) -> None:
        from openwit.pipeline.rewriting.conditions import parse_conditions
        from openwit.pipeline.rewriting.keep_list import read_keep_list
        from openwit.pipeline.rewriting.sources import Sources

        sources = Sources(settings.inputs, settings.without)
        sources.check()
        types = {field.name: field.type for field in sources.schema.arrow}
        for condition in parse_conditions(settings.where):
            condition.check(types)
        if settings.keep is not None:
            read_keep_list(settings.keep)

    def identity(self, settings: ChooseSettings, inputs: Inputs, build: BuildContext) -> dict[str, str]:
        from openwit.pipeline.rewriting.sources import Sources

        found = super().identity(settings, inputs, build)
        return found | Sources(settings.inputs).identity() | keep_identity(settings)

    def execute(
        self, job: Job, settings: ChooseSettings, inputs: Inputs, folder: Path, build: BuildContext
    ) -> StageResult:
        from openwit.pipeline.rewriting.choose import JUDGED, choose
        from openwit.pipeline.rewriting.judged import write_judged
        from openwit.pipeline.rewriting.sources import Sources
        from openwit.pipeline.stages.dedup import EVALUATION_UNIT

        step = build.step or self.name
        sources = Sources(settings.inputs, settings.without)
        if settings.images == "judged":
            texts, images = (
                [path for each in inputs.several(port) for path in each.stage_manifest().paths(each.folder, port)]
                for port in ("candidates", "survivors")
            )
            shards = [sources.name_of(shard) for shard in sources.shards]
            write_judged(folder / JUDGED, texts, images or texts, build.folders, shards)
        result = choose(job, settings, sources, folder, step)
        judging = [each.stage_manifest() for each in inputs.several("survivors")]
        compared = [line for manifest in judging for line in manifest.funnel if line.unit == EVALUATION_UNIT]
        result.funnel[:0] = [line.model_copy(update={"stage": step}) for line in compared]
        return result


class Copy(Stage[CopySettings]):
    """Copy chosen samples to shards of a new dataset; no picture is decoded."""

    name = "copy"
    version = 1
    settings = CopySettings
    summary = "copy chosen samples to the shards of a new dataset"
    inputs = (Port("chosen", CHOSEN, "the samples that are kept"),)
    output = DATASET

    def recorded_settings(self, settings: CopySettings, build: BuildContext) -> dict[str, Any]:
        title = {"name": build.dataset.name, "description": build.dataset.description}
        return title | super().recorded_settings(settings, build)

    def identity(self, settings: CopySettings, inputs: Inputs, build: BuildContext) -> dict[str, str]:
        target = {} if build.target is None else {"target": build.target}
        return super().identity(settings, inputs, build) | target

    def run_opened(
        self, job: Job, settings: CopySettings, inputs: Inputs, folder: Path, build: BuildContext
    ) -> StageRun:
        """Run the stage; with `build.target` the shards go to that URL; `folder` keeps what resuming needs."""
        from openwit.pipeline.dataset.store import RemoteFolder
        from openwit.pipeline.dataset.target import finished_target

        done = super().run_opened(job, settings, inputs, folder, build)
        if build.target is not None and not done.executed:
            finished_target(RemoteFolder(build.target), folder)
        return done

    def execute(
        self, job: Job, settings: CopySettings, inputs: Inputs, folder: Path, build: BuildContext
    ) -> StageResult:
        from openwit.pipeline.rewriting.copy_job import CopyJob

        return CopyJob(job, settings, inputs.one("chosen"), folder, build).run()


class Where(Stage[WhereSettings]):
    """Keep the images of which conditions hold, or whose uid a list names, before they are written to shards."""

    name = "where"
    version = 1
    settings = WhereSettings
    summary = "keep the images of which conditions on their columns hold"
    inputs = (Port("survivors", SURVIVORS, "the images"),)
    output = SURVIVORS

    def reasons(self) -> Sequence[Reason]:
        from openwit.pipeline.dataset.rewrite_reasons import REWRITE_REASONS
        from openwit.pipeline.stages.dedup.reasons import COPY_OF_HELD_OUT

        return (*REWRITE_REASONS, COPY_OF_HELD_OUT)

    def check_inputs(self, settings: WhereSettings) -> None:
        from openwit.pipeline.rewriting.keep_list import read_keep_list

        if settings.keep is not None:
            read_keep_list(settings.keep)

    def identity(self, settings: WhereSettings, inputs: Inputs, build: BuildContext) -> dict[str, str]:
        return super().identity(settings, inputs, build) | keep_identity(settings)

    def execute(
        self, job: Job, settings: WhereSettings, inputs: Inputs, folder: Path, build: BuildContext
    ) -> StageResult:
        from openwit.pipeline.rewriting.where import keep_where

        return keep_where(job, settings, inputs.one("survivors"), folder, build.step or self.name)
