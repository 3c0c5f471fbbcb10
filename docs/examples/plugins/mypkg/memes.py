"""A stage: drop images with a white caption bar."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from pydantic import Field

from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.execution.jobs import FileTask, Task, TaskStats
from openwit.pipeline.execution.stage import Job, StageResult
from openwit.pipeline.stages.base import IMAGES, BuildContext, Inputs, Port, Stage, StagePaths
from openwit.pipeline.stages.sidecars import copy_query_counts
from openwit.schemas.common.settings import Settings
from openwit.schemas.tables.candidates import DROPS
from openwit.schemas.tables.images import IMAGES as IMAGES_TABLE

CAPTION_BAR = Reason("caption_bar", "a white bar for a caption, as memes have it")
IMAGES_STEP, PAIRS_STEP = "no-memes/images", "no-memes/pairs"


class NoMemesSettings(Settings):
    """What counts as a caption bar."""

    share: float = Field(0.1, gt=0, lt=1, description="height of the bar, as a share of the image's height")


class NoMemes(Stage[NoMemesSettings]):
    """Drops images that begin with a white bar."""

    name = "no-memes"
    version = 1
    settings = NoMemesSettings
    summary = "drop images with a white caption bar"
    inputs = (Port("images", IMAGES, "the images to look at"),)
    output = IMAGES

    def reasons(self) -> Sequence[Reason]:
        return (CAPTION_BAR,)

    def execute(
        self, job: Job, settings: NoMemesSettings, inputs: Inputs, folder: Path, build: BuildContext
    ) -> StageResult:
        del build  # nothing of it matters here
        images = inputs.one("images")
        files = images.stage_manifest().paths(images.folder, IMAGES.name)
        tasks = [Task(n, path.stem, str(path)) for n, path in enumerate(files)]
        results = job.run(folder, tasks, "Look for caption bars", "images", DropMemes(settings.share))
        result = StageResult()
        result.add_results(results, [IMAGES_STEP, PAIRS_STEP])
        result.files += copy_query_counts(images.folder, folder)
        return result


class DropMemes(FileTask[str]):
    """Filters one file of images."""

    def __init__(self, share: float) -> None:
        self.share = share

    def run(self, task: Task[str], folder: Path, stats: TaskStats) -> list[Path]:
        table = IMAGES_TABLE.read(Path(task.payload))
        keep = np.array([not has_bar(image, self.share) for image in table.column("image").to_pylist()], bool)
        dropped = table.filter(pa.array(~keep)).to_pylist()
        why = {"reason": CAPTION_BAR, "detail": None}
        rows = [
            {"pair_id": pair["pair_id"], "url": image["url"], "text": pair["text"], **why}
            for image in dropped
            for pair in image["pairs"]
        ]
        pairs = sum(len(pairs) for pairs in table.column("pairs").to_pylist())
        for step, total, lost in (
            (IMAGES_STEP, table.num_rows, len(dropped)),
            (PAIRS_STEP, pairs, len(rows)),
        ):
            stats.enter(step, total)
            stats.leave(step, total - lost)
            stats.drop(step, CAPTION_BAR, lost)
        paths = StagePaths(folder)
        kept, drops = (where / f"{task.name}.parquet" for where in (paths.output(IMAGES), paths.drops))
        IMAGES_TABLE.write(kept, table.filter(pa.array(keep)))
        DROPS.write(drops, pa.Table.from_pylist(rows, schema=DROPS.arrow))
        return [kept, drops]


def has_bar(jpeg: bytes, share: float) -> bool:
    """Whether the top of an image is white."""
    pixels = np.asarray(Image.open(io.BytesIO(jpeg)).convert("L"))
    return bool(pixels[: max(1, round(share * len(pixels)))].mean() > 245)
