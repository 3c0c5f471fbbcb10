"""Match images and texts by each objective's own score: a choice that objectives without two towers make too."""

from dataclasses import dataclass

import torch
from rich.table import Table
from torch import Tensor

from openwit.schemas.common.errors import DataError
from openwit.training.checkpoints.files import Checkpoint, restore_model
from openwit.training.data.loader import IMAGE_ERRORS
from openwit.training.data.sample_texts import CorruptSampleError
from openwit.training.data.sampling import sample_rng
from openwit.training.data.sharded import ShardedDataset
from openwit.training.data.transforms import evaluation_transform, normalise
from openwit.training.objectives.registry import make_model, make_objective
from openwit.training.tokenizer.read import stored_tokenizer

# Images scored at once.
BATCH = 32


@dataclass(frozen=True)
class Point:
    """One checkpoint: share of images whose own text is ranked first among all, and of texts whose own image is."""

    run: str
    objective: str
    samples: int
    image_to_text: float
    text_to_image: float


def measure(run: str, checkpoint: Checkpoint, dataset: ShardedDataset, images: int) -> Point:
    """Score the first `images` readable samples, each with its first text, all against all."""
    config = checkpoint.info.config
    if config.data.split == dataset.split:
        raise DataError(f"{checkpoint.path} was trained on split {dataset.split!r}: choose a held-out split")
    objective, model = make_objective(config.objective), make_model(config.model, config.objective)
    restore_model(model, checkpoint)
    inputs = config.model.inputs
    pixels, texts = _choice(dataset, images, inputs.image_size)
    tokens = torch.from_numpy(stored_tokenizer(checkpoint.state)(texts, inputs.context_length))
    model.eval()
    with torch.inference_mode():
        scores = torch.cat([objective.score(model, normalise(part), tokens) for part in torch.split(pixels, BATCH)])
    # A score equal to the right one's ranks before it, so that a model with constant scores gets zero.
    right = scores.diagonal()
    by_image = (scores >= right[:, None]).sum(dim=1) == 1
    by_text = (scores >= right[None, :]).sum(dim=0) == 1
    return Point(
        run,
        config.objective.name,
        checkpoint.info.samples,
        float(by_image.float().mean()),
        float(by_text.float().mean()),
    )


def _choice(dataset: ShardedDataset, images: int, size: int) -> tuple[Tensor, list[str]]:
    """Return images, uint8 (N, size, size, 3), and N different texts."""
    transform = evaluation_transform(size, fast=True)
    pixels: list[Tensor] = []
    texts: dict[str, None] = {}
    for number in range(len(dataset)):
        if len(pixels) == images:
            break
        try:
            sample = dataset.sample(number)
            if not sample.texts or sample.texts[0] in texts:
                continue
            pixels.append(torch.from_numpy(transform(sample.image, sample_rng(0, 0, sample.key)).copy()))
        except (CorruptSampleError, *IMAGE_ERRORS):
            continue
        texts[sample.texts[0]] = None
    if len(pixels) < images:
        raise DataError(
            f"split {dataset.split!r} has {len(pixels)} readable images with different texts: lower --images"
        )
    return torch.stack(pixels), list(texts)


def table_of(points: list[Point], images: int) -> Table:
    """Return a table of the points, one per row."""
    table = Table(title=f"right among {images} (chance {100 / images:.1f}%)", title_justify="left")
    for heading in ("run", "objective", "samples seen", "image to text", "text to image"):
        table.add_column(heading, justify="left" if heading in ("run", "objective") else "right")
    for before, point in zip([None, *points], points, strict=False):
        if before is not None and before.run != point.run:
            table.add_section()
        table.add_row(
            point.run,
            point.objective,
            f"{point.samples:,}",
            f"{100 * point.image_to_text:.1f}%",
            f"{100 * point.text_to_image:.1f}%",
        )
    return table
