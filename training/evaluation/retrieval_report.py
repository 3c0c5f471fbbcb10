"""Evaluate a trained model by retrieval: recall, a JSON record and a contact sheet."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from openwit.schemas.common.errors import RecipeError
from openwit.training.checkpoints.load import LoadedModel
from openwit.training.data.sharded import ShardedDataset
from openwit.training.engine.runtime import cpu_prepared, make_autocast, pick_device
from openwit.training.evaluation.contact_sheet import draw_contact_sheet
from openwit.training.evaluation.embed import EmbeddedSplit, Embedder, Progress
from openwit.training.evaluation.retrieval import DIRECTIONS, RULES, RetrievalResult, retrieval

RULE_TEXT = {
    "strict": "only the image's own (image, text) entries count; equal texts of other images are wrong answers",
    "shared": "an exactly equal text of another image counts as right too",
}


@dataclass(frozen=True)
class RetrievalReport:
    """Recall of a model on a split.

    Attributes:
        model, dataset: what was evaluated.
        embedded: embeddings of the split, and the keys of unreadable samples.
        result: recall at 1, 5 and 10.
    """

    model: LoadedModel
    dataset: ShardedDataset
    embedded: EmbeddedSplit
    result: RetrievalResult

    def record(self) -> dict[str, Any]:
        """Return the result as JSON data."""
        return {
            "dataset": self.dataset.name,
            "dataset_sha256": self.dataset.manifest_sha256,
            "split": self.dataset.split,
            **self.model.about,
            "images": self.result.images,
            "entries": self.result.entries,
            "distinct_texts": self.result.distinct_texts,
            "unreadable": self.embedded.unreadable,
            "rules": RULE_TEXT,
            "interval": "95% percentile bootstrap over images, 2000 resamples, gallery fixed",
            "chance": "expected recall of a uniformly random order, exact",
            "recall": {
                direction: {rule: [asdict(r) for r in self.result.recalls[direction][rule]] for rule in RULES}
                for direction in DIRECTIONS
            },
        }

    def draw_contact_sheet(self, path: Path) -> None:
        """Write a PNG of captions and their best images."""
        first = self.result.at("text_to_image", "strict", 1)
        tenth = self.result.at("text_to_image", "strict", 10)
        subtitle = (
            f"The ten best of {self.result.images} images for each caption.   Recall@1: {100 * first.value:.1f}% "
            f"(chance {100 * first.chance:.2f}%), recall@10: {100 * tenth.value:.1f}% "
            f"(chance {100 * tenth.chance:.2f}%).   {self.model.description}."
        )
        title = f"Text to image on {self.dataset.name} / {self.dataset.split}"
        draw_contact_sheet(path, self.embedded, dataset=self.dataset, title=title, subtitle=subtitle)


def evaluate_retrieval(
    model: LoadedModel,
    dataset: ShardedDataset,
    *,
    batch_size: int = 256,
    limit: int | None = None,
    allow_train: bool = False,
    progress: Progress | None = None,
) -> RetrievalReport:
    """Evaluate a model by retrieval on a split, on the GPU if there is one.

    Args:
        model: of `load_model`.
        dataset: a held-out split.
        batch_size: images or texts embedded at once.
        limit: number of images, the first ones; None: all.
        allow_train: evaluate even if the model was trained on this split.
        progress: receives (done, total).

    Raises:
        RecipeError: the model has no embeddings, or was trained on this split.
        DataError: fewer than two images are readable.
    """
    if not model.embeds:
        raise RecipeError(f"the model was trained for {model.objective_name}, which has no embeddings for retrieval")
    if not allow_train:
        _refuse_training_data(model, dataset)
    device = pick_device("auto")
    model.to(device)
    embedder = Embedder(
        model.model,
        model.tokenizer,
        device=device,
        autocast=make_autocast(device, model.precision),
        batch_size=batch_size,
    )
    with cpu_prepared(model.threads):
        embedded = embedder.split(dataset, limit=limit, progress=progress)
    return RetrievalReport(model, dataset, embedded, retrieval(embedded))


def _refuse_training_data(model: LoadedModel, dataset: ShardedDataset) -> None:
    if model.checkpoint is None:
        return
    info = model.checkpoint.info
    same_data = dataset.manifest_sha256 == info.dataset_sha256 or dataset.name == info.dataset_name
    if same_data and dataset.split == info.config.data.split:
        raise RecipeError(
            f"the model was trained on split {dataset.split!r} of {dataset.name!r}: choose a held-out split, or allow "
            "the evaluation on it explicitly (allow_train, --allow-train)"
        )
