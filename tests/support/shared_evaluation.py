"""Evaluate a tiny model on a split by any number of processes. Run as a program, it is one of them.

`python shared_evaluation.py DATASET OUT` under torchrun's variables writes a file of what each rank found.
"""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from openwit.training.config.zoo import ClipSpec, TextSpec, VisionSpec
from openwit.training.data.sharded import ShardedDataset
from openwit.training.engine.distributed import Group, process_group
from openwit.training.engine.parallel import shard
from openwit.training.evaluation.embed import Embedder
from openwit.training.evaluation.features import RawPixels, compute
from openwit.training.evaluation.shares import Shares
from openwit.training.evaluation.zero_shot import HeadScorer, classify
from openwit.training.models.clip import Clip
from openwit.training.tokenizer.bpe import clip_tokenizer

CPU = torch.device("cpu")
CLASSES = ("red", "green", "blue")


class Labelled:
    """A split as a set of images of three classes."""

    title = "made"
    classes = CLASSES
    truth = None

    def __init__(self, dataset: ShardedDataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def key(self, index: int) -> str:
        return self._dataset.key(index)

    def sample(self, index: int) -> Any:
        sample = self._dataset.sample(index)
        return SimpleNamespace(key=sample.key, image=sample.image, label=index % 3)


def evaluate(folder: Path, shares: Shares, sharded: bool = False) -> dict[str, Any]:
    """Embeddings of a split, and ranks of its classes."""
    torch.manual_seed(0)
    vision = VisionSpec(image_size=32, patch_size=8, width=16, layers=1, heads=2)
    text = TextSpec(context_length=16, width=16, layers=1, heads=2)
    model = Clip(ClipSpec(embed_dim=8, vision=vision, text=text)).train()
    if sharded:
        assert shares.group is not None
        shard(model, CPU, group=shares.group, lowered=None)
    autocast = torch.autocast("cpu", enabled=False)
    embedder = Embedder(model, clip_tokenizer(), device=CPU, autocast=autocast, batch_size=7, shares=shares)
    dataset = ShardedDataset(folder, "val")
    found = embedder.split(dataset)
    scorer = HeadScorer(embedder, CLASSES, ("a {label} box", "{label}"))
    answers = classify(Labelled(dataset), scorer, inputs=model.inputs, batch_size=10, shares=shares)  # type: ignore[arg-type]
    compute.CHUNK = 10
    kept = folder.parent / f"features-{0 if shares.group is None else shares.group.size}-{sharded}"
    features = compute.compute_features(RawPixels(8), dataset, batch_size=4, folder=kept, shares=shares)
    return {
        "features": torch.from_numpy(features.rows.copy()),
        "feature_indices": torch.from_numpy(features.indices),
        "features_sha256": features.sha256,
        "images": found.images,
        "texts": found.texts,
        "entries": torch.from_numpy(found.entry_image * 1000 + found.entry_text),
        "indices": torch.from_numpy(found.indices),
        "captions": found.captions,
        "unreadable": found.unreadable + answers.unreadable + features.unreadable,
        "ranks": torch.from_numpy(answers.ranks),
        "predicted": torch.from_numpy(answers.predicted),
    }


def by_group(folder: Path, group: Group) -> list[dict[str, Any]]:
    """The same by copies and by shards of the model."""
    return [evaluate(folder, Shares(group)), evaluate(folder, Shares(group, padded=True), sharded=True)]


def main() -> None:
    torch.set_num_threads(1)
    with process_group("cpu", 1) as group:
        assert group is not None
        torch.save(by_group(Path(sys.argv[1]), group), f"{sys.argv[2]}.{group.rank}")


if __name__ == "__main__":
    main()
