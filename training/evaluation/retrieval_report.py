"""Evaluate a trained model by retrieval: recall, a JSON record and a contact sheet."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from openwit.schemas.common.errors import RecipeError
from openwit.training.checkpoints.load import LoadedModel
from openwit.training.data.sharded import Dataset, ShardedDataset
from openwit.training.engine.runtime import cpu_prepared, make_autocast, pick_device
from openwit.training.evaluation.contact_sheet import draw_contact_sheet
from openwit.training.evaluation.embed import EmbeddedSplit, Embedder, Progress
from openwit.training.evaluation.retrieval import DIRECTIONS, RULES, RetrievalResult, retrieval
from openwit.training.evaluation.training_images import check_not_trained_on, is_training_folder

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
        prefix: what was put before every text.
    """

    model: LoadedModel
    dataset: Dataset
    embedded: EmbeddedSplit
    result: RetrievalResult
    prefix: str = ""

    def record(self) -> dict[str, Any]:
        """Return the result as JSON data."""
        return {
            "dataset": self.dataset.name,
            "dataset_sha256": self.dataset.manifest_sha256,
            "images_sha256": self.embedded.images_sha256,
            "split": self.dataset.split,
            **self.model.about,
            "images": self.result.images,
            "entries": self.result.entries,
            "distinct_texts": self.result.distinct_texts,
            "prefix": self.prefix,
            "unreadable": self.embedded.unreadable,
            "rules": RULE_TEXT,
            "interval": "95% percentile bootstrap over images, 2000 resamples, gallery fixed",
            "chance": "expected recall of a uniformly random order, exact",
            "recall": {
                direction: {rule: [asdict(r) for r in self.result.recalls[direction][rule]] for rule in RULES}
                for direction in DIRECTIONS
            },
            "clip_benchmark": clip_benchmark_names(self.result),
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


def clip_benchmark_names(result: RetrievalResult) -> dict[str, float]:
    """Return the strict recalls under CLIP_benchmark's names, in which an image is what a text finds."""
    names = {"text_to_image": "image_retrieval_recall", "image_to_text": "text_retrieval_recall"}
    return {f"{name}@{each.k}": each.value for way, name in names.items() for each in result.recalls[way]["strict"]}


def evaluate_retrieval(
    model: LoadedModel,
    dataset: Dataset,
    *,
    batch_size: int = 256,
    limit: int | None = None,
    allow_train: bool = False,
    prefix: str = "",
    progress: Progress | None = None,
) -> RetrievalReport:
    """Evaluate a model by retrieval on a split, on the GPU if there is one.

    Args:
        model: of `load_model`.
        dataset: a held-out split of a dataset of ours, or of `open_captioned`. Of the latter a text that an image has
            twice is asked for twice, as CLIP_benchmark does.
        batch_size: images or texts embedded at once.
        limit: number of images, the first ones; None: all.
        allow_train: evaluate even if the model was trained on this split.
        prefix: is put before every text, as "a photo of " in the paper's table 13.
        progress: receives (done, total).

    Raises:
        RecipeError: the model has no embeddings, or was trained on this split.
        DataError: fewer than two images are readable, or some are in the training data by checksum.
    """
    if not model.embeds:
        raise RecipeError(f"the model was trained for {model.objective_name}, which has no embeddings for retrieval")
    if not allow_train:
        _refuse_training_data(model, dataset, limit)
    embedder = embedder_of(model, batch_size=batch_size)
    repeats = not isinstance(dataset, ShardedDataset)
    with cpu_prepared(model.threads):
        embedded = embedder.split(dataset, limit=limit, progress=progress, repeats=repeats, prefix=prefix)
    return RetrievalReport(model, dataset, embedded, retrieval(embedded), prefix)


def embedder_of(model: LoadedModel, *, batch_size: int) -> Embedder:
    """Return what embeds with a model, on the GPU if there is one."""
    device = pick_device("auto")
    model.to(device)
    autocast = make_autocast(device, model.precision)
    return Embedder(model.model, model.tokenizer, device=device, autocast=autocast, batch_size=batch_size)


def _refuse_training_data(model: LoadedModel, dataset: Dataset, limit: int | None) -> None:
    if model.checkpoint is None:
        return
    info = model.checkpoint.info
    same_data = dataset.manifest_sha256 == info.dataset_sha256
    if isinstance(dataset, ShardedDataset):
        same_data = (same_data or dataset.name == info.dataset_name) and dataset.split == info.config.data.split
    else:
        same_data = same_data or is_training_folder(model, Path(dataset.folder))
    if same_data:
        raise RecipeError(
            f"the model was trained on split {dataset.split!r} of {dataset.name!r}: choose a held-out split, or allow "
            "the evaluation on it explicitly (allow_train, --allow-train)"
        )
    if not isinstance(dataset, ShardedDataset):
        check_not_trained_on(model, dataset, f"{dataset.name}/{dataset.split}", limit)
