"""Classify zero-shot: predict the class whose texts fit an image best (paper section 3.1)."""

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
from openwit.training.objectives.base import Objective
from openwit.training.tokenizer.bpe import Tokenizer

Progress = Callable[[int, int], None]
"""Receives (done, total) of the images classified."""


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


class SetScorer(Protocol):
    """Scores each class for each image, once for each of several sets of templates."""

    def __call__(self, pixels: NDArray[np.uint8]) -> Sequence[Tensor]:
        """Map (B, size, size, 3) bytes to scores as of `Scorer`, one tensor per set."""
        ...


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


class HeadsScorer:
    """Scores with a head for each set of templates; an image is embedded once.

    Args:
        embedder: of images and texts.
        classes: names.
        sets: of templates, see `class_head`.
    """

    def __init__(self, embedder: Embedder, classes: Sequence[str], sets: Sequence[Sequence[str]]) -> None:
        self._embedder = embedder
        self._heads = [class_head(embedder.texts, classes, templates) for templates in sets]

    def __call__(self, pixels: NDArray[np.uint8]) -> list[Tensor]:
        """See `SetScorer`."""
        embedded = self._embedder.images(pixels)
        return [embedded @ head.T for head in self._heads]


class SeparateScorers:
    """Scores with one scorer for each set of templates.

    Args:
        scorers: of the sets.
    """

    def __init__(self, scorers: Sequence[Scorer]) -> None:
        self._scorers = scorers

    def __call__(self, pixels: NDArray[np.uint8]) -> list[Tensor]:
        """See `SetScorer`."""
        return [scorer(pixels) for scorer in self._scorers]


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
        labels: (N,) the right class; -1 where images may have several.
        ranks: (N,) number of wrong classes before the right one, 0 being best.
        predicted: (N,) the first class.
        unreadable: keys of images that were skipped.
        scores: (N, classes) float32, if they were asked for.
        truth: (N, classes) see `ClassificationSet`, where images may have several classes.
    """

    labels: NDArray[np.int64]
    ranks: NDArray[np.int64]
    predicted: NDArray[np.int64]
    unreadable: list[str]
    scores: NDArray[np.float32] | None = None
    truth: NDArray[np.int8] | None = None


def classify(
    data: ClassificationSet,
    scorer: Scorer,
    *,
    inputs: InputSpec,
    batch_size: int,
    progress: Progress | None = None,
    shares: Shares = ALONE,
    keep_scores: bool = False,
) -> Answers:
    """Classify all images of a set, preprocessed as the model has it (openai/CLIP: short side, central square).

    Args:
        data: the set.
        scorer: of its classes, in its order.
        inputs: of the model.
        batch_size: images at once.
        progress: receives (done, total).
        shares: of the processes of a run.
        keep_scores: return them all, for metrics that need them; always done where images may have several classes.

    Raises:
        DataError: no image can be read.
    """
    (answers,) = classify_sets(
        data,
        SeparateScorers([scorer]),
        inputs=inputs,
        batch_size=batch_size,
        progress=progress,
        shares=shares,
        keep_scores=keep_scores,
    )
    return answers


def classify_sets(
    data: ClassificationSet,
    scorer: SetScorer,
    *,
    inputs: InputSpec,
    batch_size: int,
    progress: Progress | None = None,
    shares: Shares = ALONE,
    keep_scores: bool = False,
) -> list[Answers]:
    """Classify all images of a set with several sets of templates; see `classify`."""
    done, found = 0, dict[int, _Part]()
    mine = shares.of(-(-len(data) // batch_size))
    transform = evaluation_transform(inputs.image_size, fast=False, images=inputs.images)
    blank = np.zeros((1, inputs.image_size, inputs.image_size, 3), dtype=np.uint8)
    keep_scores = keep_scores or data.truth is not None
    for number, (chunk, bad) in zip(mine, decoded_batches(data, transform, len(data), batch_size, mine), strict=True):
        labels = torch.tensor([decoded.sample.label for decoded in chunk], dtype=torch.int64)
        scored: list[_Scored] = []
        if chunk:
            tables = scorer(np.stack([decoded.pixels for decoded in chunk]))
            scored = [_scored(table, labels, keep_scores) for table in tables]
        elif shares.padded:
            scorer(blank)
        if number is None:
            continue
        found[number] = _Part(
            np.array([decoded.number for decoded in chunk], dtype=np.int64), labels.numpy(), scored, bad
        )
        done += len(chunk) + len(bad)
        if progress is not None:
            progress(done, len(data))
    parts = shares.joined(found)
    full = [part for part in parts if len(part.labels)]
    if not full:
        raise DataError(f"none of the {len(data)} images of {data.title} can be read")
    unreadable = [key for part in parts for key in part.unreadable]
    numbers = np.concatenate([part.numbers for part in full])
    return [
        Answers(
            np.concatenate([part.labels for part in full]),
            np.concatenate([part.scored[which].ranks for part in full]),
            np.concatenate([part.scored[which].predicted for part in full]),
            unreadable,
            np.concatenate([part.scored[which].scores for part in full]) if keep_scores else None,
            None if data.truth is None else data.truth[numbers],
        )
        for which in range(len(full[0].scored))
    ]


class _Scored(NamedTuple):
    """The scores of a batch with one set of templates; see `Answers`."""

    ranks: NDArray[np.int64]
    predicted: NDArray[np.int64]
    scores: NDArray[np.float32]


class _Part(NamedTuple):
    """A batch of a set; see `Answers`."""

    numbers: NDArray[np.int64]
    labels: NDArray[np.int64]
    scored: list[_Scored]
    unreadable: list[str]


def _scored(table: Tensor, labels: Tensor, keep_scores: bool) -> _Scored:
    scores = table.float().numpy() if keep_scores else np.empty((0, 0), dtype=np.float32)
    if (labels < 0).any():  # several classes: no rank
        return _Scored(np.full(len(labels), -1), table.argmax(dim=1).numpy(), scores)
    before, first = ranked(table, labels)
    return _Scored(before.numpy(), first.numpy(), scores)


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
