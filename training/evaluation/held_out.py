"""What is measured of a model while it trains. An evaluator is called with the model and where the run stands."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from openwit.schemas.common.errors import OpenWITError
from openwit.training.config.duration import Position
from openwit.training.config.train import TrainConfig
from openwit.training.data.sharded import ShardedDataset
from openwit.training.data.sources import held_out_source
from openwit.training.evaluation.embed import Embedder
from openwit.training.evaluation.retrieval import RetrievalResult, retrieval
from openwit.training.tokenizer.bpe import Tokenizer

Activity = Callable[[int, int], None]


@dataclass(frozen=True)
class Evaluation:
    """An evaluator's answer: figures for metrics.jsonl, and a sentence for people."""

    figures: dict[str, float]
    sentence: str


class Evaluator(Protocol):
    """Something to be measured every so often; add one to the list that `openwit.training.run.loop` makes.

    The model is in training mode and its towers may be sharded: then every rank calls, and all must call alike.
    """

    def __call__(self, model: Any, position: Position) -> Evaluation:
        """Measures the model."""
        ...


class Retrieval:
    """Recall on the first images of a held-out split.

    Args:
        held_out: the split.
        config: of the run; `eval` says how many images.
        tokenizer: texts to ids.
        device: of the model.
        autocast: precision of the towers.
        activity: told how far it is.
    """

    def __init__(
        self,
        held_out: ShardedDataset,
        config: TrainConfig,
        tokenizer: Tokenizer,
        device: torch.device,
        autocast: torch.autocast,
        activity: Activity,
    ) -> None:
        self._held_out = held_out
        self._config = config
        self._tokenizer = tokenizer
        self._device = device
        self._autocast = autocast
        self._activity = activity
        self.last: RetrievalResult | None = None

    def __call__(self, model: Any, position: Position) -> Evaluation:
        """Recall at 1, 5 and 10 in both directions."""
        settings = self._config.eval
        fast = self._config.data.decode == "fast"
        embedder = Embedder(model, self._tokenizer, self._device, self._autocast, settings.batch_size, fast)
        self.last = result = retrieval(embedder.split(self._held_out, settings.limit, self._activity))
        to_image, to_text = (result.at(direction, "strict", 1) for direction in ("text_to_image", "image_to_text"))
        figures = {
            f"{direction}_recall_at_{k}": result.at(direction, "strict", k).value
            for direction in ("text_to_image", "image_to_text")
            for k in (1, 5, 10)
        }
        return Evaluation(
            figures,
            f"step {position.step}: recall@1 on {self._held_out.split} ({result.images} images)  "
            f"text to image {100 * to_image.value:.1f}%  image to text {100 * to_text.value:.1f}%  "
            f"(chance {100 * to_image.chance:.2f}%, {100 * to_text.chance:.2f}%)",
        )


def open_held_out(config: TrainConfig) -> ShardedDataset | None:
    """The split to evaluate on; None where there is none, or where the objective has no two towers to retrieve by.

    Raises:
        OpenWITError: it does not exist, or is the one trained on.
    """
    if config.eval.split is None or config.objective.name not in ("contrastive", "sigmoid"):
        return None
    data, folder, split = config.data, config.eval.dataset, config.eval.split
    trained: list[tuple[Path | str | None, str]] = [(share.dataset, share.split) for share in data.datasets or []]
    trained = trained or [(data.dataset, data.split)]
    if (folder or trained[0][0], split) in trained:
        raise OpenWITError(f"eval.split is {split!r}, the split that is trained on: name a held-out split, or null")
    try:
        return held_out_source(data, split) if folder is None else ShardedDataset(folder, split)
    except OpenWITError as error:
        raise OpenWITError(
            f"eval.split: {error}; give eval.dataset, or eval.split: null to train without evaluation"
        ) from error
