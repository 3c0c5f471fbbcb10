"""Stage dedup: one image of each group of duplicates is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.stages.base import IMAGES, SURVIVORS, BuildContext, Inputs, Port, Stage, StagePaths
from openwit.pipeline.stages.dedup.settings import DedupSettings

if TYPE_CHECKING:
    from openwit.pipeline.execution.stage import Job, StageResult

EVALUATION_UNIT = "evaluation images"


class DedupPaths(StagePaths):
    """Paths in the folder of the stage dedup."""

    @property
    def survivors(self) -> Path:
        """Folder with the files of `SURVIVORS`."""
        return self.folder / "survivors"

    @property
    def copies(self) -> Path:
        """Folder with a file of `COPIES` per file of images: the dropped images, each with its reason."""
        return self.folder / "copies"

    @property
    def evaluation(self) -> Path:
        """Folder with the files of `EVALUATION_IMAGES`."""
        return self.folder / "evaluation"

    @property
    def excluded(self) -> Path:
        """Folder with the files of `EXCLUDED`: duplicates of evaluation images."""
        return self.folder / "excluded"


class Dedup(Stage[DedupSettings]):
    """Find images that are duplicates of each other or of evaluation images, and keep the best of each group."""

    name = "dedup"
    version = 7
    settings = DedupSettings
    summary = "find duplicate images and keep the best of each group; exclude copies of evaluation images"
    inputs = (Port("images", IMAGES, "the fetched images"),)
    output = SURVIVORS
    paths = DedupPaths
    neutral: ClassVar = {"duplicates": "keep"}
    neutral_meaning = "no image is dropped as a duplicate"
    shorthands: ClassVar = {"keep": {"duplicates": "keep"}}

    def reasons(self) -> Sequence[Reason]:
        from openwit.pipeline.stages.dedup.reasons import DEDUP_REASONS

        return DEDUP_REASONS

    def check_inputs(self, settings: DedupSettings) -> None:
        from openwit.pipeline.stages.dedup.evaluation import evaluation_inputs
        from openwit.pipeline.stages.dedup.stage import removal_identity

        evaluation_inputs(settings)
        removal_identity(settings)

    def identity(self, settings: DedupSettings, inputs: Inputs, build: BuildContext) -> dict[str, str]:
        from openwit.pipeline.stages.dedup.evaluation import evaluation_inputs
        from openwit.pipeline.stages.dedup.stage import removal_identity

        read = evaluation_inputs(settings) | removal_identity(settings)
        return super().identity(settings, inputs, build) | read

    def execute(
        self, job: Job, settings: DedupSettings, inputs: Inputs, folder: Path, build: BuildContext
    ) -> StageResult:
        from openwit.pipeline.stages.dedup.stage import deduplicate

        return deduplicate(job, settings, inputs, folder)
