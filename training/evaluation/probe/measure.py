"""Measure encoders by linear probes on labelled images, and describe the result as JSON data."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from openwit.training.evaluation.features import Encoder, Features, compute_features
from openwit.training.evaluation.features.disjoint import check_disjoint
from openwit.training.evaluation.probe.fit import HELD_OUT, Probe, estimate, fit_probe
from openwit.training.evaluation.probe.sets import ProbeSets, labels_at
from openwit.training.evaluation.probe.solver import ITERATIONS, TOLERANCE
from openwit.training.evaluation.probe.sweep import GRID
from openwit.training.evaluation.shares import ALONE, Shares
from openwit.training.evaluation.statistics import Estimate, Metric

Report = Callable[[str, int, int], None]
"""Receives what is done, and (done, total)."""


@dataclass(frozen=True)
class Encoded:
    """Features of the sets of a probe, and sentences on what they have in common."""

    train: Features
    test: Features
    valid: Features | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProbeResult:
    """A probe of one encoder.

    Attributes:
        encoder: its name.
        features: number of them.
        probe: the fit.
        test: metric on the test images.
        encoded: features it was fitted to and measured on.
    """

    encoder: str
    features: int
    probe: Probe
    test: Estimate
    encoded: Encoded


def encode_sets(
    encoder: Encoder,
    sets: ProbeSets,
    *,
    batch_size: int = 256,
    folder: Path | None = None,
    shares: Shares = ALONE,
    report: Report | None = None,
) -> Encoded:
    """Compute the features of all sets.

    Raises:
        DataError: no image of a set can be read, or test images are among the training or validation images.
    """

    def features(data: Any, name: str) -> Features:
        def progress(done: int, total: int) -> None:
            if report is not None:
                report(f"features of {name} images by {encoder.name}", done, total)

        return compute_features(encoder, data, batch_size=batch_size, folder=folder, shares=shares, progress=progress)

    return encoded_by(features, sets)


def encoded_by(features: Callable[[Any, str], Features], sets: ProbeSets) -> Encoded:
    """Return the features of all sets.

    Args:
        features: computes them, of images and a word for them.
        sets: of the probe.

    Raises:
        DataError: test images are among the training or validation images, see `check_disjoint`.
    """
    train, test = features(sets.train, "training"), features(sets.test, "test")
    valid = None if sets.valid is None else features(sets.valid, "validation")
    notes = [check_disjoint(test, train, sets.test, sets.train)]
    if valid is not None and sets.valid is not None:
        notes += [
            check_disjoint(test, valid, sets.test, sets.valid),
            check_disjoint(valid, train, sets.valid, sets.train),
        ]
    return Encoded(train, test, valid, tuple(note for note in notes if note))


def probe_features(
    encoded: Encoded,
    sets: ProbeSets,
    *,
    metric: Metric = Metric.ACCURACY,
    seed: int = 0,
    device: torch.device | str = "cpu",
    iterations: int = ITERATIONS,
    tolerance: float = TOLERANCE,
    report: Report | None = None,
) -> ProbeResult:
    """Fit a probe to features and measure it on the test images.

    Raises:
        DataError: see `fit_probe`.
    """
    train, valid = encoded.train, encoded.valid
    validating = None
    if valid is not None and sets.valid is not None:
        validating = valid.rows, labels_at(sets.valid, valid.indices)
    probe = fit_probe(
        train.rows,
        labels_at(sets.train, train.indices),
        len(sets.classes),
        valid=validating,
        metric=metric,
        seed=seed,
        device=device,
        iterations=iterations,
        tolerance=tolerance,
        progress=lambda done: None if report is None else report(f"probe of {train.encoder}", done, 15),
    )
    test = estimate(metric, probe.head.scores(encoded.test.rows), labels_at(sets.test, encoded.test.indices))
    return ProbeResult(train.encoder, train.rows.shape[1], probe, test, encoded)


def probe_record(results: Sequence[ProbeResult], sets: ProbeSets, metric: Metric, seed: int) -> dict[str, Any]:
    """Return results as JSON data; the first is the model's."""
    named = {"train": sets.train, "validation": sets.valid, "test": sets.test}
    held_out = f"{HELD_OUT:.0%} of each class of the training images, seed {seed}"
    return {
        "measurement": "probe",
        "metric": str(metric),
        "classes": list(sets.classes),
        "sets": {
            name: {"name": data.name, "split": data.split, "images": len(data), "left_out": data.left_out}
            for name, data in named.items()
            if data is not None
        },
        "shared_images": list(results[0].encoded.notes),
        "validation": "its own split" if sets.valid is not None else held_out,
        "objective": "mean loss + penalty / (2 N) |weights|^2, intercepts free; scikit-learn's C is 1 / penalty",
        "probes": [_described(each) for each in results],
    }


def _described(result: ProbeResult) -> dict[str, Any]:
    probe, encoded = result.probe, result.encoded
    parts = {"train": encoded.train, "validation": encoded.valid, "test": encoded.test}
    return {
        "encoder": result.encoder,
        "encoder_key": encoded.train.key,
        "features": result.features,
        "test": asdict(result.test),
        "penalty": probe.head.penalty,
        "sweep": [{"penalty": GRID[step], "validation": score} for step, score in probe.sweep.scores.items()],
        "fit": {
            "iterations": probe.head.iterations,
            "gradient": probe.head.gradient,
            "converged": probe.head.converged,
            "unconverged_penalties": probe.unconverged,
        },
        "images": {"train": probe.train, "validation": probe.valid, "test": len(encoded.test)},
        "sha256": {name: each.sha256 for name, each in parts.items() if each is not None},
        "unreadable": {name: each.unreadable for name, each in parts.items() if each is not None},
    }
