"""Zero-shot classification as one of the things that are measured while a model trains (`held_out`)."""

from collections.abc import Callable
from typing import Any

import torch

from openwit.schemas.common.errors import OpenWITError
from openwit.training.config.duration import Position
from openwit.training.config.train import TrainConfig
from openwit.training.evaluation.classification_data import ClassificationSet, open_classification
from openwit.training.evaluation.classification_readers import Wanted
from openwit.training.evaluation.embed import Embedder
from openwit.training.evaluation.held_out import Evaluation
from openwit.training.evaluation.prompts import read_prompts
from openwit.training.evaluation.zero_shot import (
    HeadScorer,
    ObjectiveScorer,
    Scorer,
    ZeroShotResult,
    classify,
    summed_up,
)
from openwit.training.objectives.registry import make_objective
from openwit.training.tokenizer.bpe import Tokenizer

MOST_CAPTIONS = 100_000
"""That the captioning objective may read in one evaluation: minutes on a GPU, and no more."""


class ZeroShot:
    """Top-1, top-5 and mean per-class accuracy on a set of labelled images.

    Args:
        data: the set, limited already.
        config: of the run; `eval.zero_shot` says which prompts.
        tokenizer: texts to ids.
        device: of the model.
        autocast: precision of the towers.
        activity: told how far it is.
    """

    def __init__(
        self,
        data: ClassificationSet,
        config: TrainConfig,
        tokenizer: Tokenizer,
        device: torch.device,
        autocast: torch.autocast,
        activity: Callable[[int, int], None],
    ) -> None:
        assert config.eval.zero_shot is not None
        self._data = data
        self._templates = read_prompts(config.eval.zero_shot.prompts)
        self._config = config
        self._tokenizer = tokenizer
        self._device = device
        self._autocast = autocast
        self._activity = activity
        self.last: ZeroShotResult | None = None

    def __call__(self, model: Any, position: Position) -> Evaluation:
        """See `openwit.training.evaluation.held_out.Evaluator`."""
        size = model.spec.vision.image_size
        batch_size = self._config.eval.batch_size
        answers = classify(self._data, self._scorer(model), size, batch_size, self._activity)
        self.last = result = summed_up(answers, self._data.classes)
        top5 = "" if result.top5 is None else f"  top-5 {100 * result.top5.value:.1f}%"
        left_out = f", {len(result.unreadable)} unreadable" if result.unreadable else ""
        return Evaluation(
            result.figures(),
            f"step {position.step}: zero-shot on {self._data.title} ({result.images} images{left_out})  "
            f"top-1 {100 * result.top1.value:.1f}%{top5}  mean per class {100 * result.mean_per_class.value:.1f}%  "
            f"(chance {100 * result.top1.chance:.2f}%)",
        )

    def _scorer(self, model: Any) -> Scorer:
        # Made anew each time, as the texts' embeddings move with the weights.
        classes, templates = self._data.classes, self._templates
        common = (self._tokenizer, self._device, self._autocast)
        if self._config.objective.name in ("contrastive", "sigmoid"):
            return HeadScorer(Embedder(model, *common, self._config.eval.batch_size), classes, templates)
        return ObjectiveScorer(model, make_objective(self._config.objective), *common, classes, templates)


def open_zero_shot(config: TrainConfig) -> ClassificationSet | None:
    """The labelled images of `eval.zero_shot`, as many as it says; None where there are none.

    Raises:
        OpenWITError: the data or the prompts are not there, or the objective would take too long over them.
    """
    settings = config.eval.zero_shot
    if settings is None:
        return None
    try:
        templates = read_prompts(settings.prompts)
        wanted = Wanted(settings.data, settings.split, settings.classes)
        data = open_classification(wanted).limited(settings.limit)
    except OpenWITError as error:
        raise OpenWITError(f"eval.zero_shot: {error}") from error
    captions = len(data) * len(data.classes) * len(templates)
    if config.objective.name == "captioning" and captions > MOST_CAPTIONS:
        most = MOST_CAPTIONS // (len(data.classes) * len(templates))
        remedy = f"set eval.zero_shot.limit to {most} or less" if most else "choose fewer prompts"
        raise OpenWITError(
            f"eval.zero_shot: captioning reads every text of every class for every image, {captions:,} captions, and "
            f"more than {MOST_CAPTIONS:,} hold training up: {remedy}"
        )
    return data
