"""Compute effective and relative robustness from accuracies on a base set and a shifted one.

Both axes are on a logit scale, on which accuracies of ordinary models lie near a line. Effective robustness is how far
a model's accuracy under shift lies above that line at its accuracy on the base set; relative robustness is what a
change of a model, such as a fitted head, gains under shift (Taori et al. 2020).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from openwit.schemas.common.errors import DataError
from openwit.training.evaluation.statistics.fits import LogitLine, fit_logit_line


@dataclass(frozen=True)
class Accuracy:
    """A model on both sets.

    Attributes:
        model: its name.
        base, shifted: accuracies, 0 to 1, on the same classes.
        base_images, shifted_images: numbers of images.
        before: name of the model that this one was made of, by a new head or by fine-tuning; None: of none.
        is_baseline: whether the line is fitted to it.
    """

    model: str
    base: float
    shifted: float
    base_images: int
    shifted_images: int
    before: str | None = None
    is_baseline: bool = False


@dataclass(frozen=True)
class Robustness:
    """Robustness of one model.

    Attributes:
        accuracy: what it is computed from.
        expected: accuracy under shift that the line has for its base accuracy; None without a line.
        effective: accuracy under shift minus `expected`.
        relative: accuracy under shift minus that of the model before; None if there is none.
    """

    accuracy: Accuracy
    expected: float | None
    effective: float | None
    relative: float | None


def robustness(accuracies: Sequence[Accuracy]) -> tuple[LogitLine | None, list[Robustness]]:
    """Return the line of the baselines, None with fewer than two of them, and the robustness of every model.

    Accuracies of 0 and 1 have no logit; they count as half an image away from that.

    Raises:
        DataError: two models have one name, a model before is not there, or all baselines have one base accuracy.
    """
    known = {each.model: each for each in accuracies}
    if len(known) < len(accuracies):
        raise DataError(f"{_twice(accuracies)} is there twice: each model counts once, from one result")
    for each in accuracies:
        if each.before is not None and each.before not in known:
            raise DataError(f"{each.model} is said to be made of {each.before}, which was not measured")
    baselines = [each for each in accuracies if each.is_baseline]
    line: LogitLine | None = None
    if len(baselines) > 1:
        try:
            line = fit_logit_line(
                [inside(each.base, each.base_images) for each in baselines],
                [inside(each.shifted, each.shifted_images) for each in baselines],
            )
        except ValueError as error:
            raise DataError(f"no line can be fitted to the baselines: {error}") from error
    found = []
    for each in accuracies:
        expected = None if line is None else line.at(inside(each.base, each.base_images))
        effective = None if expected is None else each.shifted - expected
        relative = None if each.before is None else each.shifted - known[each.before].shifted
        found.append(Robustness(each, expected, effective, relative))
    return line, found


def _twice(accuracies: Sequence[Accuracy]) -> str:
    names = [each.model for each in accuracies]
    return next(name for number, name in enumerate(names) if name in names[:number])


def inside(share: float, images: int) -> float:
    """Return a share at least half an image away from 0 and 1."""
    return min(max(share, 0.5 / images), 1 - 0.5 / images)
