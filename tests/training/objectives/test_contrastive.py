import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from openwit.training.config import objective_settings
from openwit.training.config.zoo import ClipSpec, TextSpec, VisionSpec
from openwit.training.engine.gradcache import backward
from openwit.training.models.clip import Clip
from openwit.training.objectives import base
from openwit.training.objectives.base import Inputs
from openwit.training.objectives.contrastive import (
    ContrastiveObjective,
    contrastive_loss,
    local_contrastive_loss,
    pair_targets,
    text_numbers,
)
from openwit.training.objectives.registry import make_model

Pair = tuple[Tensor, Tensor]


def loss_of(local: Pair, everywhere: Pair, scale: Tensor, offset: int, numbers: Tensor | None = None) -> base.Loss:
    return local_contrastive_loss(local, everywhere, logit_scale=scale, row_offset=offset, numbers=numbers)


def embeddings(seed: int, count: int = 5) -> torch.Tensor:
    return F.normalize(torch.randn(count, 8, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_the_loss_is_the_papers_pseudo_code() -> None:
    images, texts, scale = embeddings(0), embeddings(1), torch.tensor(math.log(1 / 0.07))
    found = contrastive_loss(images, texts, scale, torch.eye(5))
    logits = images.numpy().astype(np.float64) @ texts.numpy().astype(np.float64).T / 0.07

    def cross_entropy(rows: np.ndarray) -> float:
        return float(np.mean(np.log(np.exp(rows).sum(axis=1)) - np.diag(rows)))

    assert float(found.value) == pytest.approx((cross_entropy(logits) + cross_entropy(logits.T)) / 2, rel=1e-5)


def test_perfect_embeddings_cost_nothing_and_equal_ones_log_n() -> None:
    scale = torch.tensor(math.log(100))
    perfect = contrastive_loss(torch.eye(6), torch.eye(6), scale, torch.eye(6))
    assert float(perfect.value) == pytest.approx(0, abs=1e-6)
    assert float(perfect.metrics["batch_accuracy"]) == 1
    same = torch.ones(6, 1)
    assert float(contrastive_loss(same, same, scale, torch.eye(6)).value) == pytest.approx(math.log(6), rel=1e-5)


def test_logits_stay_in_float32_under_autocast() -> None:
    images, texts, scale = embeddings(0), embeddings(1), torch.tensor(math.log(100))
    expected = contrastive_loss(images, texts, scale, torch.eye(5)).value
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = contrastive_loss(images, texts, scale, torch.eye(5)).value
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_equal_texts_share_the_target_only_when_asked() -> None:
    tokens = torch.tensor([[1, 9, 0], [2, 9, 0], [1, 9, 0]])
    assert torch.equal(pair_targets(tokens, "pair"), torch.eye(3))
    shared = torch.tensor([[0.5, 0, 0.5], [0, 1, 0], [0.5, 0, 0.5]])
    assert torch.equal(pair_targets(tokens, "same_text"), shared)
    assert torch.equal(pair_targets(tokens[:2], "same_text"), torch.eye(2))


def test_backward_gives_every_parameter_a_gradient() -> None:
    torch.manual_seed(0)
    model = Clip(
        ClipSpec(
            embed_dim=16,
            vision=VisionSpec(image_size=16, patch_size=8, width=16, layers=1, heads=2),
            text=TextSpec(context_length=6, vocabulary=20, width=16, layers=1, heads=2),
        )
    )
    tokens = torch.tensor([[18, 3, 19, 0], [18, 4, 5, 19], [18, 3, 19, 0]])
    autocast = torch.autocast("cpu", enabled=False)
    loss = backward(
        ContrastiveObjective("same_text"), model, Inputs(torch.randn(3, 3, 16, 16), tokens), autocast=autocast
    )
    assert loss.value.isfinite()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0 or name.endswith("bias"), name


def double_gradients(images: Tensor, texts: Tensor, scale: float, targets: Tensor) -> list[Tensor]:
    """Of a plain restatement in float64: images, texts, scale."""
    x, y = images.detach().double().requires_grad_(), texts.detach().double().requires_grad_()
    t = torch.tensor(scale, dtype=torch.float64, requires_grad=True)
    logits = t.exp() * x @ y.T
    rows = -(logits.log_softmax(dim=1) * targets.double()).sum(dim=1).mean()
    columns = -(logits.log_softmax(dim=0) * targets.double()).sum(dim=0).mean()
    return list(torch.autograd.grad((rows + columns) / 2, [x, y, t]))


@pytest.mark.parametrize("block", [1 << 26, 26, 1])
@pytest.mark.parametrize("positives", ["pair", "same_text"])
def test_gradients_in_blocks_are_the_plain_ones(block: int, positives: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "BLOCK_ELEMENTS", block)
    x, y = embeddings(0, 13).requires_grad_(), embeddings(1, 13).requires_grad_()
    t = torch.tensor(math.log(1 / 0.07), requires_grad=True)
    tokens = torch.tensor([[1, number // 3, 9] for number in range(13)])
    numbers = None if positives == "pair" else text_numbers(tokens)
    found = loss_of((x, y), (x, y), t, 0, numbers)
    targets = pair_targets(tokens, positives)
    assert torch.allclose(found.value, contrastive_loss(x, y, t, targets).value, rtol=1e-6)
    assert torch.allclose(
        found.metrics["batch_accuracy"], contrastive_loss(x, y, t, targets).metrics["batch_accuracy"]
    )
    expected = double_gradients(x, y, float(t.detach()), targets)
    for a, b in zip(torch.autograd.grad(found.value, [x, y, t]), expected, strict=True):
        assert (a - b).norm() < 1e-5 * b.norm()


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(6)), st.booleans())
def test_order_and_sides_do_not_matter(order: list[int], shared: bool) -> None:
    x, y, t = embeddings(0, 6), embeddings(1, 6), torch.tensor(2.0)
    numbers = torch.tensor([0, 1, 0, 2, 1, 3]) if shared else None
    value = loss_of((x, y), (x, y), t, 0, numbers).value
    moved = (x[order], y[order])
    again = loss_of(moved, moved, t, 0, None if numbers is None else numbers[order]).value
    assert torch.allclose(again, value, rtol=1e-6)
    assert torch.allclose(loss_of((y, x), (y, x), t, 0, numbers).value, value, rtol=1e-6)


@pytest.mark.parametrize("positives", ["pair", "same_text"])
def test_the_shares_of_uneven_ranks_add_up(positives: str, made: SimpleNamespace) -> None:
    model = make_model(made.MODEL, objective_settings())
    tokens = made.rows([1], [2], [3], [1], [1], [4], [2])
    whole = [embeddings(0, 7).requires_grad_(), embeddings(1, 7).requires_grad_()]
    images = torch.zeros(7, 3, 16, 16)
    objective = ContrastiveObjective(positives)
    expected = objective.loss(model, tuple(whole), Inputs(images, tokens), None)
    wanted = torch.autograd.grad(expected.value, [*whole, model.logit_scale])

    spans = [(0, 3), (3, 4), (4, 7)]
    parts = [[part.detach()[start:stop].requires_grad_() for start, stop in spans] for part in whole]
    # Ranks trim to their own longest text, so the second one's rows are of another length.
    parts.append([tokens[:3], F.pad(tokens[3:4], (0, 4)), tokens[4:]])
    total, accuracy = torch.zeros(()), 0.0
    for rank in range(3):
        inputs = Inputs(images[: len(parts[0][rank])], parts[2][rank])
        share = objective.loss(model, (parts[0][rank], parts[1][rank]), inputs, made.FakeGroup(rank, parts))
        total = total + share.value
        accuracy += float(share.metrics["batch_accuracy"])
    assert torch.allclose(total, expected.value, rtol=1e-6)
    assert accuracy == pytest.approx(float(expected.metrics["batch_accuracy"]))
    found = torch.autograd.grad(total, [*parts[0], *parts[1], model.logit_scale])
    for a, b in zip([torch.cat(found[:3]), torch.cat(found[3:6]), found[6]], wanted, strict=True):
        assert (a - b).norm() < 1e-5 * b.norm()


def test_the_scale_is_kept_at_a_hundred(made: SimpleNamespace) -> None:
    model = make_model(made.MODEL, objective_settings(logit_scale=20))
    assert float(model.logit_scale.detach().exp()) == pytest.approx(20)
    with torch.no_grad():
        model.logit_scale.fill_(6.0)
    ContrastiveObjective("pair").after_step(model)
    assert float(model.logit_scale.detach()) == pytest.approx(math.log(100))
