"""Stage card: the report on a dataset, as a page and as JSON, with what Hugging Face and Croissant read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from openwit.pipeline.stages.base import DATASET, BuildContext, Inputs, Port, Stage, StageRun
from openwit.pipeline.stages.card.settings import CardSettings

if TYPE_CHECKING:
    from openwit.pipeline.execution.stage import Job, StageResult


HTML = "card.html"
JSON = "card.json"


class Card(Stage[CardSettings]):
    """Write `card.html`, `card.json`, `README.md` and `croissant.json` into a dataset, with their checksums in
    `card.sha256`.
    """

    name = "card"
    version = 3
    settings = CardSettings
    summary = "write card.html, card.json, README.md and croissant.json of a dataset"
    inputs = (Port("dataset", DATASET, "the dataset, a folder or a URL"),)
    output = DATASET
    in_place = True

    def run_opened(
        self, job: Job, settings: CardSettings, inputs: Inputs, folder: Path, build: BuildContext
    ) -> StageRun:
        """Write the card unless it exists for these very files and settings; keep nothing but the card itself."""
        from openwit.pipeline.execution.stage import StageManifest
        from openwit.pipeline.stages.card.stage import is_current

        current = is_current(settings, inputs.one("dataset").location)
        if not current:
            self.execute(job, settings, inputs, folder, build)
        recorded = self.recorded_settings(settings, build)
        return StageRun(
            StageManifest(stage=self.name, version=self.version, settings=recorded, files=[], funnel=[]), not current
        )

    def execute(
        self, job: Job, settings: CardSettings, inputs: Inputs, folder: Path, build: BuildContext
    ) -> StageResult:
        from openwit.pipeline.execution.stage import StageResult
        from openwit.pipeline.stages.card.stage import write_card

        with job.progress.status("Writing the card"):
            write_card(settings, inputs.one("dataset").location)
        return StageResult()
