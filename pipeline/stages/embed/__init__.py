"""Stage embed: vectors of a dataset's images and captions, by functions that the recipe names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.stages.base import DATASET, BuildContext, Inputs, Kind, Port, Stage
from openwit.pipeline.stages.embed.settings import EmbedSettings

if TYPE_CHECKING:
    from pathlib import Path

    from openwit.pipeline.execution.stage import Job, StageResult

EMBEDDINGS = Kind("embeddings", "openwit.schemas.tables.embeddings:EMBEDDINGS", "vectors of a dataset's samples")


class Embed(Stage[EmbedSettings]):
    """Embed the images and captions of a dataset."""

    name = "embed"
    version = 1
    settings = EmbedSettings
    summary = "embed the images and captions of a dataset by functions that are named"
    inputs = (Port("dataset", DATASET, "the dataset, a folder or a URL"),)
    output = EMBEDDINGS

    def reasons(self) -> Sequence[Reason]:
        from openwit.pipeline.stages.embed.reasons import EMBED_REASONS

        return EMBED_REASONS

    def needs(self, settings: EmbedSettings, port: Port) -> bool:
        return settings.dataset is None

    def check(self, settings: EmbedSettings) -> None:
        from openwit.pipeline.stages.embed.stage import functions_of

        functions_of(settings)

    def check_inputs(self, settings: EmbedSettings) -> None:
        from openwit.pipeline.stages.embed.stage import identity_of

        if settings.dataset is not None:
            identity_of(settings.dataset)

    def identity(self, settings: EmbedSettings, inputs: Inputs, build: BuildContext) -> dict[str, str]:
        """Return the checksum of the dataset's manifest, and what the functions say of themselves."""
        import json

        from openwit.pipeline.stages.embed.stage import functions_of, identity_of

        found = {"dataset": identity_of(_dataset(settings, inputs))}
        for of, function in functions_of(settings).items():
            said = function.identity()
            if said is not None:
                found[of] = json.dumps(said, sort_keys=True)
        return found

    def execute(
        self, job: Job, settings: EmbedSettings, inputs: Inputs, folder: Path, build: BuildContext
    ) -> StageResult:
        from openwit.pipeline.stages.embed.stage import embed_dataset

        return embed_dataset(job, settings, _dataset(settings, inputs), folder)


def _dataset(settings: EmbedSettings, inputs: Inputs) -> str:
    """Return the folder, absolute as workers may run in another, or the URL of the dataset."""
    import os

    from openwit.schemas.common.storage.remote import is_remote

    where = settings.dataset or inputs.one("dataset").location
    return where if is_remote(where) else os.path.abspath(where)
