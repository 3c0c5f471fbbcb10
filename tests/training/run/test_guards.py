import math

import pytest
import torch

from openwit.training.config.duration import Position
from openwit.training.run.guards import PendingMetrics, StepMetrics, Warnings, non_finite


def test_figures_of_a_gpu_are_read_two_steps_later() -> None:
    waiting = PendingMetrics(torch.device("cuda"))
    steps = [
        StepMetrics.of(Position(n, n, 0.0), lr=0.1, keys=[str(n)], metrics={"loss": torch.tensor(float(n))})
        for n in range(4)
    ]
    assert [[f.position.step for f in waiting.add(figures)] for figures in steps] == [[], [], [0], [1]]
    assert [f.read() for f in waiting.drain()] == [{"loss": 2.0}, {"loss": 3.0}]
    assert waiting.drain() == []
    at_once = PendingMetrics(torch.device("cpu"))
    assert at_once.add(steps[0]) == [steps[0]]


@pytest.mark.parametrize(
    ("figures", "scaled", "words"),
    [
        ({"loss": 1.0, "grad_norm": 2.0}, False, None),
        ({"loss": math.nan, "grad_norm": 2.0}, False, "the loss is nan"),
        ({"loss": 1.0, "grad_norm": math.inf}, False, "the gradient's norm is inf (loss 1)"),
        ({"loss": 1.0, "grad_norm": math.inf, "loss_scale": 512.0}, True, None),
        ({"loss": 1.0, "grad_norm": math.inf, "loss_scale": 1.0}, True, "the gradient's norm is inf (loss 1)"),
        ({"loss": math.inf, "grad_norm": math.inf, "loss_scale": 512.0}, True, "the loss is inf"),
    ],
)
def test_what_ends_a_run(figures: dict[str, float], scaled: bool, words: str | None) -> None:
    assert non_finite(figures, scaled=scaled) == words


def told(warnings: Warnings, records: list[tuple[int, float, dict[str, float]]]) -> list[tuple[int, str]]:
    return [
        (step, w.cause) for step, done, figures in records for w in warnings.record(step, done=done, metrics=figures)
    ]


def test_a_loss_that_stays_at_chance_is_told_once_after_a_tenth_of_the_run() -> None:
    records = [(n, n / 100, {"loss": 6.9}) for n in range(30)]
    assert told(Warnings(math.log(1000), 100.0), records) == [(10, "loss_not_moving")]
    assert told(Warnings(None, None), records) == []
    falling = [(n, n / 100, {"loss": 6.9 - 0.05 * n}) for n in range(30)]
    assert told(Warnings(math.log(1000), 100.0), falling) == []


def test_a_scale_at_its_clamp_is_told_after_a_thousand_steps_there() -> None:
    records = [(n, 0.0, {"loss": 1.0, "logit_scale": 100.0 if n != 500 else 90.0}) for n in range(0, 3000, 10)]
    assert told(Warnings(None, 100.0), records) == [(1510, "logit_scale_clamped")]
    assert told(Warnings(None, None), records) == []


def test_a_starving_loader_is_told_once_it_has_settled() -> None:
    hungry = [(n, 0.0, {"loss": 1.0, "seconds": 10.0, "loader_wait": 0.3}) for n in range(1, 40)]
    assert told(Warnings(None, 100.0), hungry) == [(23, "loader_starving")]
    assert told(Warnings(None, 100.0, start=10), hungry) == [(33, "loader_starving")]
    fed = [(n, 0.0, {"loss": 1.0, "seconds": 10.0, "loader_wait": 0.1}) for n in range(1, 40)]
    assert told(Warnings(None, 100.0), fed) == []


def test_the_first_steps_are_no_sign_of_a_starving_loader() -> None:
    # A record every 10 steps; the first batch takes ten minutes, as where a network folder wakes up.
    slow_start = [(10 * n, 0.0, {"loss": 1.0, "seconds": 10.0, "loader_wait": 0.0}) for n in range(1, 20)]
    slow_start[0][2].update(seconds=600.0, loader_wait=0.99)
    assert told(Warnings(None, 100.0), slow_start) == []
