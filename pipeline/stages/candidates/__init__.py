"""Stage candidates: (image, text) pairs from crawls and tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.stages.base import CANDIDATES, BuildContext, Inputs, Stage, StagePaths
from openwit.pipeline.stages.candidates.settings import CandidateSettings

if TYPE_CHECKING:
    from openwit.pipeline.execution.stage import Job, StageResult


class CandidatesPaths(StagePaths):
    """Paths in the folder of the stage candidates."""

    @property
    def candidates(self) -> Path:
        """Folder with the files of `CANDIDATES`."""
        return self.folder / "candidates"

    def part(self, task: str, number: int) -> Path:
        """Return the path of one of the files that a task writes, numbered from 0."""
        return self.candidates / f"{task}-{number:03d}.parquet"

    def parts(self, task: str) -> list[Path]:
        """Return the files that a task wrote."""
        return list(self.candidates.glob(f"{task}-*.parquet"))

    @property
    def damage(self) -> Path:
        """Return the path of `DAMAGE`: what could not be read, and where."""
        return self.folder / "damage.parquet"


class Candidates(Stage[CandidateSettings]):
    """Read every (image, text) pair of crawls and tables, cleaned, filtered, with its provenance."""

    name = "candidates"
    version = 5
    settings = CandidateSettings
    summary = "read (image, text) pairs from crawls and tables, clean and filter them"
    output = CANDIDATES
    paths = CandidatesPaths

    def reasons(self) -> Sequence[Reason]:
        from openwit.pipeline.stages.candidates.stage import CANDIDATES_REASONS

        return CANDIDATES_REASONS

    def check(self, settings: CandidateSettings) -> None:
        from openwit.pipeline.readers.custom import check_readers
        from openwit.pipeline.stages.candidates.filter import load_custom_filters

        check_readers(settings.readers)
        load_custom_filters(settings)

    def check_inputs(self, settings: CandidateSettings) -> None:
        from openwit.pipeline.stages.candidates.stage import input_files
        from openwit.schemas.common.storage.remote import is_remote

        local = [name for name in settings.inputs if not is_remote(name)]
        if local:
            input_files(settings.model_copy(update={"inputs": local}))

    def identity(self, settings: CandidateSettings, inputs: Inputs, build: BuildContext) -> dict[str, str]:
        from openwit.pipeline.execution.stage import file_inputs
        from openwit.pipeline.stages.candidates.stage import input_files

        return super().identity(settings, inputs, build) | file_inputs(input_files(settings))

    def execute(
        self, job: Job, settings: CandidateSettings, inputs: Inputs, folder: Path, build: BuildContext
    ) -> StageResult:
        from openwit.pipeline.stages.candidates.stage import read_candidates

        return read_candidates(job, settings, folder)
