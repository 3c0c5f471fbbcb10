"""Effective and relative robustness, and classes that a shifted set shares with the base set."""

import numpy as np
import pytest

from openwit.schemas.common.errors import DataError
from openwit.training.evaluation.robustness import Accuracy, match_classes, robustness
from openwit.training.evaluation.statistics.fits import expit, logit


def accuracy(name: str, base: float, shifted: float, **others: object) -> Accuracy:
    return Accuracy(name, base, shifted, 1000, 500, **others)  # type: ignore[arg-type]


def test_robustness_is_the_distance_from_the_baselines_line() -> None:
    on_line = [
        accuracy(f"b{number}", base, expit(1.1 * logit(base) - 0.7), is_baseline=True)
        for number, base in enumerate((0.5, 0.6, 0.75))
    ]
    clip = accuracy("clip", 0.7, 0.72)
    probed = accuracy("probed", 0.8, 0.7, before="clip")
    line, found = robustness([*on_line, clip, probed])
    assert line is not None
    assert (line.slope, line.intercept, line.points) == (pytest.approx(1.1), pytest.approx(-0.7), 3)
    assert [each.effective for each in found[:3]] == pytest.approx([0, 0, 0])
    assert found[3].effective == pytest.approx(0.72 - expit(1.1 * logit(0.7) - 0.7))
    assert found[3].relative is None
    assert found[4].relative == pytest.approx(-0.02)
    assert robustness([clip])[0] is None
    perfect, _ = robustness([*on_line, accuracy("all", 1.0, 0.0, is_baseline=True)])
    assert perfect is not None


@pytest.mark.parametrize(
    ("accuracies", "words"),
    [
        ([accuracy("a", 0.5, 0.4), accuracy("a", 0.6, 0.5)], "a is there twice: each model counts once"),
        ([accuracy("a", 0.5, 0.4, before="b")], "is said to be made of b, which was not measured"),
        (
            [accuracy(name, 0.5, 0.4, is_baseline=True) for name in "ab"],
            "all models have the same accuracy on the base set",
        ),
    ],
)
def test_what_has_no_robustness(accuracies: list[Accuracy], words: str) -> None:
    with pytest.raises(DataError, match=words):
        robustness(accuracies)


BASE = ["n01440764 tench", "n01443537 goldfish", "tennis_ball", "Mobile phone", "cell phone"]


def test_classes_match_by_id_by_name_and_by_a_given_mapping() -> None:
    subset = match_classes(
        BASE, ["n01443537", "Tennis-ball", "phone", "spoon"], {"phone": ["mobile phone", "cell phone"]}
    )
    assert subset.of_shifted == ((1,), (2,), (3, 4), ())
    assert subset.unmatched == ("spoon",)
    assert subset.base_classes == [1, 2, 3, 4]
    scores = np.array([[9, 5, 1, 2, 3], [0, 1, 2, 3, 4], [0, 1, 5, 3, 4], [0, 1, 1, 0, 0]], dtype=np.float32)
    # The tench is no class of the shifted set, so it cannot be predicted; a tie is wrong.
    assert subset.shifted_right(scores, np.array([0, 2, 1, 0])).tolist() == [True, True, True, False]
    assert subset.shifted_right(scores, np.array([3, 2, 2, 3])).tolist() == [True, False]
    assert subset.base_right(scores, np.array([0, 3, 2, 1])).tolist() == [True, True, False]
    scores[0] = np.nan
    assert subset.shifted_right(scores[:1], np.array([0])).tolist() == [False]


@pytest.mark.parametrize(
    ("shifted", "given", "words"),
    [
        (["goldfish", "spoon"], None, "fewer than two are among the 5"),
        (["goldfish", "x"], {"x": ["whale"]}, "mapped to 'whale', which the base set does not have"),
        (
            ["goldfish", "x", "tennis ball"],
            {"x": ["n01443537"]},
            "two classes of the shifted set are 'n01443537 goldfish'",
        ),
    ],
)
def test_classes_that_do_not_match(shifted: list[str], given: dict[str, list[str]] | None, words: str) -> None:
    with pytest.raises(DataError, match=words):
        match_classes(
            [*BASE, "goldfish"][:5], shifted if shifted[0] != "goldfish" else ["n01443537", *shifted[1:]], given
        )
