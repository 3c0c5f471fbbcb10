"""Classify zero-shot: predict the class whose texts fit an image best (paper section 3.1)."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from openwit.schemas.common.errors import DataError
from openwit.training.config.zoo import InputSpec
from openwit.training.data.transforms import evaluation_transform, normalise
from openwit.training.evaluation.classification_data import ClassificationSet
from openwit.training.evaluation.decoding import decoded_batches
from openwit.training.evaluation.embed import Embedder, evaluating
from openwit.training.evaluation.prompts import filled
from openwit.training.evaluation.shares import ALONE, Shares
from openwit.training.evaluation.statistics.intervals import bootstrap_class_mean, wilson
from openwit.training.objectives.base import Objective
from openwit.training.tokenizer.bpe import Tokenizer

Progress = Callable[[int, int], None]
"""Receives (done, total) of the images classified."""

TOP = 5
CONFUSIONS = 20


class Scorer(Protocol):
    """Scores each class for each image."""

    def __call__(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Map (B, size, size, 3) bytes to (B, classes) float32 on the CPU; higher is better."""
        ...


def class_head(embed: Callable[[Sequence[str]], Tensor], classes: Sequence[str], templates: Sequence[str]) -> Tensor:
    """Return (classes, D) weights of unit length: the texts of a class are embedded, averaged and normalised again.

    Embeddings are averaged, not probabilities (section 3.1.4), so an ensemble of any number of templates costs no more
    than one, once it is computed.

    Args:
        embed: texts to (texts, D) of unit length.
        classes: names.
        templates: see `openwit.training.evaluation.prompts`.
    """
    embedded = embed(texts_of_classes(classes, templates)).double()
    means = embedded.view(len(classes), len(templates), -1).mean(dim=1)
    return F.normalize(means, dim=1).float()


def texts_of_classes(classes: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Return all texts of the first class, then of the second, and so on."""
    return [filled(template, name) for name in classes for template in templates]


class HeadScorer:
    """Scores by cosine with a head, for models with two towers.

    Args:
        embedder: of images and texts.
        classes: names.
        templates: see `class_head`.
    """

    def __init__(self, embedder: Embedder, classes: Sequence[str], templates: Sequence[str]) -> None:
        self._embedder = embedder
        self._head = class_head(embedder.texts, classes, templates)

    def __call__(self, pixels: NDArray[np.uint8]) -> Tensor:
        """See `Scorer`."""
        return self._embedder.images(pixels) @ self._head.T


class ObjectiveScorer:
    """Scores by `Objective.score` of each text, averaged over a class's templates, for any model.

    Bag of words and captioning return log-likelihoods, in which short and common names have an advantage.

    Args:
        model: of the objective.
        objective: what it was trained for.
        tokenizer: texts to ids.
        device: where the model is.
        autocast: precision of the towers.
        classes: names.
        templates: see `class_head`.
    """

    def __init__(
        self,
        model: Any,
        objective: Objective,
        tokenizer: Tokenizer,
        *,
        device: torch.device,
        autocast: torch.autocast,
        classes: Sequence[str],
        templates: Sequence[str],
    ) -> None:
        self._model, self._objective = model, objective
        self._device, self._autocast = device, autocast
        self._templates = len(templates)
        tokens = tokenizer(texts_of_classes(classes, templates), model.inputs.context_length)
        self._tokens = torch.from_numpy(tokens).to(device)

    def __call__(self, pixels: NDArray[np.uint8]) -> Tensor:
        """See `Scorer`."""
        images = normalise(torch.from_numpy(pixels).to(self._device), images=self._model.inputs.images)
        with torch.inference_mode(), evaluating(self._model), self._autocast:
            scores = self._objective.score(self._model, images, self._tokens)
        return scores.float().view(len(images), -1, self._templates).mean(dim=2).cpu()


@dataclass(frozen=True)
class Answers:
    """Predictions, one entry per image.

    Attributes:
        labels: (N,) the right class.
        ranks: (N,) number of wrong classes before the right one, 0 being best.
        predicted: (N,) the first class.
        unreadable: keys of images that were skipped.
    """

    labels: NDArray[np.int64]
    ranks: NDArray[np.int64]
    predicted: NDArray[np.int64]
    unreadable: list[str]


def classify(
    data: ClassificationSet,
    scorer: Scorer,
    *,
    inputs: InputSpec,
    batch_size: int,
    progress: Progress | None = None,
    shares: Shares = ALONE,
) -> Answers:
    """Classify all images of a set, preprocessed as the model has it (openai/CLIP: short side, central square).

    Args:
        data: the set.
        scorer: of its classes, in its order.
        inputs: of the model.
        batch_size: images at once.
        progress: receives (done, total).
        shares: of the processes of a run.

    Raises:
        DataError: no image can be read.
    """
    done, found = 0, dict[int, _Part]()
    mine = shares.of(-(-len(data) // batch_size))
    transform = evaluation_transform(inputs.image_size, fast=False, images=inputs.images)
    blank = np.zeros((1, inputs.image_size, inputs.image_size, 3), dtype=np.uint8)
    for number, (chunk, bad) in zip(mine, decoded_batches(data, transform, len(data), batch_size, mine), strict=True):
        labels = torch.tensor([decoded.sample.label for decoded in chunk], dtype=torch.int64)
        if chunk:
            before, first = ranked(scorer(np.stack([decoded.pixels for decoded in chunk])), labels)
        else:
            before, first = labels, labels
            if shares.padded:
                scorer(blank)
        if number is None:
            continue
        found[number] = _Part(labels.numpy(), before.numpy(), first.numpy(), bad)
        done += len(chunk) + len(bad)
        if progress is not None:
            progress(done, len(data))
    parts = shares.joined(found)
    if not any(len(part.labels) for part in parts):
        raise DataError(f"none of the {len(data)} images of {data.title} can be read")
    return Answers(
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.ranks for part in parts]),
        np.concatenate([part.predicted for part in parts]),
        [key for part in parts for key in part.unreadable],
    )


class _Part(NamedTuple):
    """A batch of a set; see `Answers`."""

    labels: NDArray[np.int64]
    ranks: NDArray[np.int64]
    predicted: NDArray[np.int64]
    unreadable: list[str]


def ranked(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many wrong classes rank before the right one, and which class ranks first; (B,) each.

    Among equal scores, and NaN, wrong classes rank first, and among them the one of lower number, so a model that
    gives the same score to every class has an accuracy of zero.

    Args:
        scores: (B, classes).
        labels: (B,).
    """
    rows = torch.arange(len(scores))
    own = scores[rows, labels]
    before = (~(scores < own[:, None])).sum(dim=1) - 1
    wrong = scores.clone()
    wrong[rows, labels] = -torch.inf
    first = wrong.argmax(dim=1)
    # Where all wrong scores are minus infinity too, the right class may have come first in class 0.
    first = torch.where(first == labels, (labels == 0).long(), first)
    return before, torch.where(before == 0, labels, first)


@dataclass(frozen=True)
class Share:
    """A share in [0, 1]: the value, its 95% interval, and the chance level."""

    value: float
    low: float
    high: float
    chance: float


@dataclass(frozen=True)
class ClassResult:
    """One class.

    Attributes:
        name: of the class.
        images: number of its images.
        right: number of those predicted correctly.
        accuracy: right / images, with Wilson's interval; None if it has no images.
        taken_for: the wrong class that was predicted most often, if any, and how often.
    """

    name: str
    images: int
    right: int
    accuracy: Share | None
    taken_for: tuple[str, int] | None


@dataclass(frozen=True)
class Confusion:
    """Number of images of a class that were predicted as another."""

    true: str
    predicted: str
    images: int


@dataclass(frozen=True)
class ZeroShotResult:
    """Accuracies on a set.

    Attributes:
        images: number of images classified.
        top1: share of images whose class ranks first.
        top5: share of images whose class is among the first five; None if there are at most five.
        mean_per_class: mean of the accuracies of all classes that have images.
        classes: every class, in the order of the set.
        confusions: most frequent first, `CONFUSIONS` at most.
        unreadable: keys of images that were skipped.
    """

    images: int
    top1: Share
    top5: Share | None
    mean_per_class: Share
    classes: list[ClassResult]
    confusions: list[Confusion]
    unreadable: list[str]

    def metrics(self) -> dict[str, float]:
        """Return the values to log during training."""
        shares = {"top1": self.top1, "top5": self.top5, "mean_per_class": self.mean_per_class}
        return {f"zero_shot_{name}": share.value for name, share in shares.items() if share is not None}


def summarise(answers: Answers, classes: Sequence[str]) -> ZeroShotResult:
    """Return the metrics of the answers, with Wilson's intervals and, for the mean over classes, a bootstrap's."""
    count, ways = len(answers.labels), len(classes)
    counts = np.bincount(answers.labels, minlength=ways)
    right = np.bincount(answers.labels[answers.ranks == 0], minlength=ways)
    there = counts > 0
    interval = bootstrap_class_mean(right[there], counts[there])
    mean = float((right[there] / counts[there]).mean())
    wrong = answers.ranks > 0
    pairs = Counter(zip(answers.labels[wrong].tolist(), answers.predicted[wrong].tolist(), strict=True))
    confusions = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    most: dict[int, tuple[str, int]] = {}
    for (true, taken), number in confusions:
        most.setdefault(true, (classes[taken], number))
    return ZeroShotResult(
        count,
        _share(int((answers.ranks < 1).sum()), count, 1 / ways),
        _share(int((answers.ranks < TOP).sum()), count, TOP / ways) if ways > TOP else None,
        Share(mean, interval.low, interval.high, 1 / ways),
        [
            ClassResult(
                name,
                int(counts[number]),
                int(right[number]),
                _share(int(right[number]), int(counts[number]), 1 / ways) if counts[number] else None,
                most.get(number),
            )
            for number, name in enumerate(classes)
        ],
        [Confusion(classes[true], classes[taken], number) for (true, taken), number in confusions[:CONFUSIONS]],
        answers.unreadable,
    )


def _share(right: int, count: int, chance: float) -> Share:
    interval = wilson(right, count)
    return Share(right / count, interval.low, interval.high, chance)
