"""Stage fetch: from URLs to decoded, resized images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.stages.base import IMAGES, SELECTED, BuildContext, Inputs, Port, Stage, StagePaths, StageRun
from openwit.pipeline.stages.fetch.settings import FetchSettings

if TYPE_CHECKING:
    from openwit.pipeline.execution.stage import Job, StageResult


class FetchPaths(StagePaths):
    """Paths in the folder of the stage fetch."""

    @property
    def images(self) -> Path:
        """Folder with the files of `IMAGES`."""
        return self.folder / "images"


class Fetch(Stage[FetchSettings]):
    """Download, check and resize the selected images."""

    name = "fetch"
    version = 7
    settings = FetchSettings
    summary = "download, check and resize the selected images"
    inputs = (Port("selected", SELECTED, "the pairs whose images are fetched"),)
    output = IMAGES
    paths = FetchPaths
    retries = True
    neutral: ClassVar = {"web": False}
    neutral_meaning = "images are taken from the inputs, checked, and resized as by default; none is downloaded"

    def reasons(self) -> Sequence[Reason]:
        from openwit.pipeline.stages.fetch.stage import FETCH_REASONS

        return FETCH_REASONS

    def check(self, settings: FetchSettings) -> None:
        from openwit.pipeline.images.exif import check_exif
        from openwit.pipeline.stages.fetch.task import load_image_filters

        load_image_filters(settings)
        if settings.image.exif:
            check_exif()

    def check_inputs(self, settings: FetchSettings) -> None:
        from openwit.pipeline.stages.fetch.stage import blocklist_identity

        blocklist_identity(settings)

    def identity(self, settings: FetchSettings, inputs: Inputs, build: BuildContext) -> dict[str, str]:
        from openwit.pipeline.stages.fetch.stage import blocklist_identity

        return super().identity(settings, inputs, build) | blocklist_identity(settings)

    def run_opened(
        self, job: Job, settings: FetchSettings, inputs: Inputs, folder: Path, build: BuildContext
    ) -> StageRun:
        """Run the stage; with `build.retry_failed` a finished one retries transient failures."""
        from openwit.pipeline.stages.fetch.retry import promote
        from openwit.pipeline.stages.fetch.stage import retry

        promote(folder)
        done = super().run_opened(job, settings, inputs, folder, build)
        if build.retry_failed and not done.executed and retry(job, settings, inputs, folder):
            # The chunks are in place; running the stage writes the missing manifest.
            done = super().run_opened(job, settings, inputs, folder, build)
        return done

    def execute(
        self, job: Job, settings: FetchSettings, inputs: Inputs, folder: Path, build: BuildContext
    ) -> StageResult:
        from openwit.pipeline.stages.fetch.stage import fetch_images

        return fetch_images(job, settings, inputs, folder)
