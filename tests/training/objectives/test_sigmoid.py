import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from openwit.training.config import objective_settings
from openwit.training.objectives import base
from openwit.training.objectives.registry import make_model
from openwit.training.objectives.sigmoid import SigmoidObjective, sigmoid_loss


def loss_of(images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor) -> base.Loss:
    return sigmoid_loss(images, texts, logit_scale=scale, logit_bias=bias)


def embeddings(seed: int, count: int) -> Tensor:
    return F.normalize(torch.randn(count, 8, generator=torch.Generator().manual_seed(seed)), dim=1)


def double_loop(images: Tensor, texts: Tensor, scale: float, bias: float) -> float:
    total = 0.0
    for i, image in enumerate(images.double().tolist()):
        for j, text in enumerate(texts.double().tolist()):
            logit = math.exp(scale) * sum(a * b for a, b in zip(image, text, strict=True)) + bias
            signed = logit if i == j else -logit
            total += math.log1p(math.exp(-signed)) if signed > 0 else -signed + math.log1p(math.exp(signed))
    return total / len(images)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 7), st.integers(0, 100), st.floats(-1, 6), st.floats(-30, 10))
def test_the_value_is_that_of_the_double_loop(count: int, seed: int, scale: float, bias: float) -> None:
    images, texts = embeddings(seed, count), embeddings(seed + 1000, count)
    found = loss_of(images, texts, torch.tensor(scale), torch.tensor(bias))
    assert float(found.value) == pytest.approx(double_loop(images, texts, scale, bias), rel=2e-5, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(6)))
def test_order_and_sides_do_not_matter(order: list[int]) -> None:
    images, texts, scale, bias = embeddings(0, 6), embeddings(1, 6), torch.tensor(2.3), torch.tensor(-10.0)
    value = loss_of(images, texts, scale, bias).value
    assert torch.allclose(loss_of(images[order], texts[order], scale, bias).value, value, rtol=1e-6)
    assert torch.allclose(loss_of(texts, images, scale, bias).value, value, rtol=1e-6)


def gradients(images: Tensor, texts: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Of a plain restatement."""
    x, y = (part.to(dtype).requires_grad_() for part in (images, texts))
    scale, bias = (torch.tensor(value, dtype=dtype, requires_grad=True) for value in (2.3, -10.0))
    signs = 2 * torch.eye(len(x), dtype=dtype) - 1
    loss = F.softplus(-signs * (scale.exp() * x @ y.T + bias), threshold=100).sum() / len(x)
    return list(torch.autograd.grad(loss, [x, y, scale, bias]))


@pytest.mark.parametrize("block", [1 << 26, 26, 1])
def test_gradients_in_blocks_are_the_plain_ones(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "BLOCK_ELEMENTS", block)
    images, texts = embeddings(0, 13), embeddings(1, 13)
    leaves = [part.requires_grad_() for part in (images, texts, torch.tensor(2.3), torch.tensor(-10.0))]
    loss = loss_of(*leaves)
    for found, expected in zip(
        torch.autograd.grad(loss.value, leaves), gradients(images.detach(), texts.detach(), torch.float64), strict=True
    ):
        assert (found - expected).norm() < 1e-5 * expected.norm()


def test_extreme_logits_stay_finite() -> None:
    for scale, bias in [(10.0, 0.0), (10.0, -30000.0), (0.0, -200.0), (0.0, 200.0)]:
        x, y = embeddings(0, 5).requires_grad_(), embeddings(1, 5).requires_grad_()
        loss = loss_of(x, y, torch.tensor(scale), torch.tensor(bias))
        loss.value.backward()
        assert loss.value.isfinite()
        assert x.grad is not None
        assert x.grad.isfinite().all()


def test_logits_stay_in_float32_under_autocast() -> None:
    arguments = (embeddings(0, 5), embeddings(1, 5), torch.tensor(2.3), torch.tensor(-10.0))
    expected = loss_of(*arguments).value
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss_of(*arguments).value, expected)


def test_the_shares_of_uneven_ranks_add_up(made: SimpleNamespace) -> None:
    model = make_model(made.MODEL, objective_settings("sigmoid"))
    inputs = made.sample_inputs(7)
    whole = [embeddings(0, 7).requires_grad_(), embeddings(1, 7).requires_grad_()]
    learned = [model.logit_scale, model.logit_bias]
    objective = SigmoidObjective()
    expected = objective.loss(model, tuple(whole), inputs, None)
    wanted = torch.autograd.grad(expected.value, whole + learned)

    parts = [[part.detach()[:3].requires_grad_(), part.detach()[3:].requires_grad_()] for part in whole]
    shares = [
        objective.loss(model, (parts[0][rank], parts[1][rank]), inputs, made.FakeGroup(rank, parts)) for rank in (0, 1)
    ]
    total = shares[0].value + shares[1].value
    assert torch.allclose(total, expected.value, rtol=1e-6)
    assert float(sum(share.metrics["batch_accuracy"] for share in shares)) == pytest.approx(
        float(expected.metrics["batch_accuracy"])
    )
    found = torch.autograd.grad(total, [*parts[0], *parts[1], *learned])
    joined = [torch.cat(found[0:2]), torch.cat(found[2:4]), *found[4:]]
    for a, b in zip(joined, wanted, strict=True):
        assert (a - b).norm() < 1e-5 * b.norm()


def test_the_model_begins_as_the_source_says_and_names_its_bias_as_open_clip(made: SimpleNamespace) -> None:
    model = make_model(made.MODEL, objective_settings("sigmoid"))
    assert float(model.logit_scale.detach().exp()) == pytest.approx(10)
    assert float(model.state_dict()["logit_bias"]) == -10
    other = make_model(made.MODEL, objective_settings("sigmoid", logit_scale=50, logit_bias=-2.71))
    assert float(other.logit_scale.detach().exp()) == pytest.approx(50)
    assert float(other.logit_bias) == pytest.approx(-2.71)
    assert "logit_bias" not in make_model(made.MODEL, objective_settings()).state_dict()
    with torch.no_grad():
        model.logit_scale.fill_(6.0)
    SigmoidObjective().after_step(model)
    assert float(model.logit_scale.detach()) == 6.0
