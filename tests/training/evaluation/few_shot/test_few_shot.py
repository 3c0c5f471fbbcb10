"""Draws of a few images per class, their probes, and the plot."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from openwit.schemas.common.errors import DataError
from openwit.training.cli.few_shot import curve_svg, shots_of
from openwit.training.evaluation.few_shot import draw_shots, few_shot
from openwit.training.evaluation.statistics import Metric


def test_draws_hold_as_many_of_each_class_and_nothing_twice() -> None:
    labels = np.repeat(np.arange(3), [20, 5, 1])
    for shots in (1, 2, 4, 8):
        train, valid, short = draw_shots(labels, 3, shots, seed=1)
        assert not set(train) & set(valid)
        counts = np.bincount(labels[train], minlength=3)
        assert counts.tolist() == [shots, min(shots, 4), 1]
        assert short == ({} if shots == 1 else {2: 1} if shots < 5 else {1: 4, 2: 1})
        assert (np.bincount(labels[valid], minlength=3) <= 4).all()
    first, second = (set(draw_shots(labels, 3, shots, seed=1)[0]) for shots in (1, 2))
    assert first < second
    assert set(draw_shots(labels, 3, 4, seed=1)[0]) != set(draw_shots(labels, 3, 4, seed=2)[0])
    with pytest.raises(DataError, match="no class has two"):
        draw_shots(np.arange(3), 3, 1, seed=0)


def test_a_curve_rises_and_is_the_same_again() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    rows = (np.eye(3, 8)[labels] * 2 + rng.normal(0, 1, (120, 8))).astype(np.float32)
    data = (rows[:60], labels[:60]), (rows[60:], labels[60:])
    found = few_shot(*data, 3, shots=(1, 8), seeds=2)
    assert [each.shots for each in found.shots] == [1, 8]
    one, eight = found.shots
    assert one.mean < eight.mean
    assert one.low is not None
    assert one.high is not None
    assert 0 <= one.low <= one.mean <= one.high <= 1
    assert one.mean == pytest.approx(np.mean(one.values))
    assert found == few_shot(*data, 3, shots=(1, 8), seeds=2)
    svg = curve_svg("A <title>", {"model": found}, Metric.ACCURACY, 0.5, 1 / 3)
    root = ET.fromstring(svg)
    said = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"A <title>", "model", "zero-shot", "chance", "1", "8", "100%"} <= set(said)
    assert few_shot(*data, 3, shots=(1,), seeds=1).shots[0].low is None


@pytest.mark.parametrize("text", ["", "0", "1,x", "1,1", "20000", "-1"])
def test_lists_of_shots(text: str) -> None:
    assert shots_of("8, 1") == (1, 8)
    with pytest.raises(DataError, match="--shots"):
        shots_of(text)
