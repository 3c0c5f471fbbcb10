from typing import Any

import pytest
import torch
from torch import nn

from openwit.training.engine import muon as module
from openwit.training.engine.muon import float32_muon, orthogonalised

pytestmark = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has Muon from 2.9 on")

SETTINGS: dict[str, Any] = {"lr": 0.02, "weight_decay": 0.1}


def matrices() -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(*shape)) for shape in ((8, 24), (24, 8), (8, 24), (8, 8))]


@pytest.mark.parametrize("settings", [{}, {"adjust_lr_fn": "match_rms_adamw"}, {"nesterov": False, "ns_steps": 3}])
def test_the_update_is_torchs_but_for_its_rounding(monkeypatch: Any, settings: dict[str, Any]) -> None:
    # torch's iteration, without its conversion to bfloat16.
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor.float().clone())
    ends = []
    for kind in (torch.optim.Muon, float32_muon(torch.optim.Muon)):
        parameters = matrices()
        optimizer = kind(parameters, **SETTINGS, **settings)
        for step in range(3):
            for number, parameter in enumerate(parameters):
                generator = torch.Generator().manual_seed(10 * step + number)
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            optimizer.step()
        ends.append([*parameters, *(optimizer.state[p]["momentum_buffer"] for p in parameters)])
    for torchs, ours in zip(*ends, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-4, atol=1e-5)


def test_matrices_of_one_shape_are_one_product(monkeypatch: Any) -> None:
    seen = []
    original = module.orthogonalised
    monkeypatch.setattr(
        module, "orthogonalised", lambda many, *more: (seen.append(many.shape), original(many, *more))[1]
    )
    parameters = matrices()
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    float32_muon(torch.optim.Muon)(parameters, **SETTINGS).step()
    assert [tuple(shape) for shape in seen] == [(2, 8, 24), (1, 24, 8), (1, 8, 8)]


def test_singular_values_are_near_one() -> None:
    values = torch.linalg.svdvals(orthogonalised(torch.randn(3, 20, 12), (3.4445, -4.7750, 2.0315), 5, 1e-7))
    assert 0.3 < float(values.min()) <= float(values.max()) < 1.5
