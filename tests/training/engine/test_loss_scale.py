import torch

from openwit.training.engine.loss_scale import GROWTH_INTERVAL, INITIAL, LossScale


def test_it_halves_at_once_and_doubles_after_a_long_time() -> None:
    scale = LossScale(torch.device("cpu"))
    scale.update(torch.tensor(1.0))
    assert float(scale.value) == INITIAL / 2
    for _ in range(GROWTH_INTERVAL - 1):
        scale.update(torch.tensor(0.0))
    assert float(scale.value) == INITIAL / 2
    again = LossScale(torch.device("cpu"))
    again.restore(scale.state())
    for one in (scale, again):
        one.update(torch.tensor(0.0))
        assert float(one.value) == INITIAL
