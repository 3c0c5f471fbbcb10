"""Stage shard: shards of WebDataset, files or Parquet, with index, metadata and manifest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openwit.pipeline.stages.base import DATASET, SURVIVORS, BuildContext, Inputs, Port, Stage, StageRun
from openwit.pipeline.stages.shard.settings import ShardSettings

if TYPE_CHECKING:
    from openwit.pipeline.execution.stage import Job, StageResult


class Shard(Stage[ShardSettings]):
    """Write shards of WebDataset, files or Parquet in a global random order, with index, metadata and manifest."""

    name = "shard"
    version = 4
    settings = ShardSettings
    summary = "write shards of WebDataset, files or Parquet with index, metadata and manifest"
    inputs = (Port("survivors", SURVIVORS, "the images of the dataset"),)
    output = DATASET

    def shared(self, settings: ShardSettings) -> Mapping[str, Mapping[str, Any]]:
        return {"survivors": {"carry_keys": True}} if settings.keys == "input" else {}

    def recorded_settings(self, settings: ShardSettings, build: BuildContext) -> dict[str, Any]:
        title = {"name": build.dataset.name, "description": build.dataset.description}
        return title | super().recorded_settings(settings, build)

    def identity(self, settings: ShardSettings, inputs: Inputs, build: BuildContext) -> dict[str, str]:
        from openwit.pipeline.execution.stage import stage_input
        from openwit.pipeline.stages.shard.stage import images_folder

        fetched = {"images": stage_input(images_folder(inputs.one("survivors")))}
        target = {} if build.target is None else {"target": build.target}
        return super().identity(settings, inputs, build) | fetched | target

    def run_opened(
        self, job: Job, settings: ShardSettings, inputs: Inputs, folder: Path, build: BuildContext
    ) -> StageRun:
        """Run the stage; with `build.target` the shards go to that URL; `folder` keeps what resuming needs."""
        from openwit.pipeline.dataset.store import RemoteFolder
        from openwit.pipeline.dataset.target import finished_target

        done = super().run_opened(job, settings, inputs, folder, build)
        if build.target is not None and not done.executed:
            finished_target(RemoteFolder(build.target), folder)
        return done

    def execute(
        self, job: Job, settings: ShardSettings, inputs: Inputs, folder: Path, build: BuildContext
    ) -> StageResult:
        from openwit.pipeline.stages.shard.stage import ShardJob

        return ShardJob(job, settings, inputs.one("survivors"), folder, build).run()
