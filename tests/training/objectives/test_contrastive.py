import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from training.models.clip import MAX_LOGIT_SCALE, Clip
from training.models.zoo import ClipSpec, TextSpec, VisionSpec
from training.objectives.contrastive import ContrastiveObjective, contrastive_loss, pair_targets


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
    scale = torch.tensor(MAX_LOGIT_SCALE)
    perfect = contrastive_loss(torch.eye(6), torch.eye(6), scale, torch.eye(6))
    assert float(perfect.value) == pytest.approx(0, abs=1e-6)
    assert float(perfect.metrics["batch_accuracy"]) == 1
    same = torch.ones(6, 1)
    assert float(contrastive_loss(same, same, scale, torch.eye(6)).value) == pytest.approx(math.log(6), rel=1e-5)


def test_logits_stay_in_float32_under_autocast() -> None:
    images, texts, scale = embeddings(0), embeddings(1), torch.tensor(MAX_LOGIT_SCALE)
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
    loss = ContrastiveObjective("same_text").backward(model, torch.randn(3, 3, 16, 16), tokens, autocast)
    assert loss.value.isfinite()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0 or name.endswith("bias"), name
