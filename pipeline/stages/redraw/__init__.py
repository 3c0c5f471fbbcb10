"""Stage redraw: the second draw, among the pairs that download and deduplication kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.stages.base import SURVIVORS, BuildContext, Inputs, Port, Stage
from openwit.pipeline.stages.select import DrawPaths
from openwit.schemas.common.settings import Settings

if TYPE_CHECKING:
    from openwit.pipeline.execution.stage import Job, StageResult


class RedrawPaths(DrawPaths):
    """Paths in the folder of the stage redraw."""

    @property
    def survivors(self) -> Path:
        """Folder with the files of `SURVIVORS`."""
        return self.folder / "survivors"


class RedrawSettings(Settings):
    """Empty settings: how to draw is in the history of the selection."""


class Redraw(Stage[RedrawSettings]):
    """Draw again, with the cap itself, among the pairs that remain of a selection with oversample."""

    name = "redraw"
    version = 4
    settings = RedrawSettings
    summary = "draw again, with the cap itself, among the pairs that are left of a selection with oversample"
    inputs = (Port("survivors", SURVIVORS, "the images that are left"),)
    output = SURVIVORS
    paths = RedrawPaths

    def reasons(self) -> Sequence[Reason]:
        from openwit.pipeline.stages.redraw.reasons import REDRAW_REASONS

        return REDRAW_REASONS

    def execute(
        self, job: Job, settings: RedrawSettings, inputs: Inputs, folder: Path, build: BuildContext
    ) -> StageResult:
        from openwit.pipeline.stages.redraw.stage import draw_again

        return draw_again(job, inputs, folder)
