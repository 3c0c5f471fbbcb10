import torch
from torch import nn

from openwit.training.engine.ema import Ema


def test_an_average_follows_the_weights_and_can_stand_in_for_them() -> None:
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    ema = Ema(model, 0.5)
    expected = 1.0
    for step, value in enumerate([2.0, 4.0, 8.0, 16.0, 32.0]):
        with torch.no_grad():
            model.weight.fill_(value)
        ema.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    torch.testing.assert_close(ema.state()["weight"], torch.full((1, 2), expected))
    with ema.in_place():
        torch.testing.assert_close(model.weight.detach(), torch.full((1, 2), expected))
    assert model.weight.tolist() == [[32.0, 32.0]]
    torch.testing.assert_close(ema.state()["weight"], torch.full((1, 2), expected))


def test_an_average_is_taken_up_again() -> None:
    torch.manual_seed(0)
    models = [nn.Linear(3, 2) for _ in range(2)]
    first, second = (Ema(model, 0.9) for model in models)
    second.restore(first.state())
    assert torch.equal(second.state()["weight"], models[0].weight)
    # Its own memory, not the other's.
    second.update(0)
    assert torch.equal(first.state()["weight"], models[0].weight)
