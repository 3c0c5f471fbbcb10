import pytest
import torch

from openwit.schemas.common.errors import RecipeError
from openwit.training.config import OptimSettings
from openwit.training.config.zoo import ClipSpec, TextSpec, VisionSpec
from openwit.training.engine.optim import make_optimizer, set_learning_rate, take_step
from openwit.training.models.clip import Clip

SPEC = ClipSpec(
    embed_dim=8,
    vision=VisionSpec(image_size=16, patch_size=8, width=16, layers=1, heads=2),
    text=TextSpec(context_length=6, vocabulary=20, width=16, layers=1, heads=2),
)


def test_gains_biases_and_the_temperature_are_not_decayed() -> None:
    model = Clip(SPEC)
    decayed, plain = make_optimizer(model, OptimSettings(weight_decay=0.3)).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
    untouched = {names[id(parameter)] for parameter in plain["params"]}
    assert "logit_scale" in untouched
    assert "visual.class_embedding" in untouched
    assert all("ln_" in n or n.endswith("bias") or n in ("logit_scale", "visual.class_embedding") for n in untouched)
    assert len(untouched) + len(decayed["params"]) == len(names)


def test_a_step_is_adamw_as_defined() -> None:
    model = torch.nn.Linear(3, 2)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    settings = OptimSettings(lr=0.1, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2)
    optimizer = make_optimizer(model, settings)
    set_learning_rate(optimizer, 0.05)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    # After bias correction the first step moves each weight by lr * g / (|g| + eps); decay is lr * wd * w.
    expected = before["weight"] * (1 - 0.05 * 0.2) - 0.05 / (1 + 1e-6)
    torch.testing.assert_close(model.weight, expected)
    torch.testing.assert_close(model.bias, before["bias"] - 0.05 / (1 + 1e-6))


@pytest.mark.parametrize("name", ["muon", "torch.optim.SGD"])
@pytest.mark.parametrize("option", ["lr", "weight_decay", "params"])
def test_options_do_not_repeat_settings(name: str, option: str) -> None:
    settings = OptimSettings(name=name, options={option: 0.1})
    with pytest.raises(RecipeError, match=rf"optim\.options: {option} is a setting of its own"):
        make_optimizer(torch.nn.Linear(2, 2), settings)


def test_an_optimiser_that_cannot_update_the_weights_is_a_sentence() -> None:
    settings = OptimSettings(name="torch.optim.SparseAdam")
    model = torch.nn.Linear(2, 2)
    optimizer = make_optimizer(model, settings)
    model(torch.ones(1, 2)).sum().backward()
    with pytest.raises(RecipeError, match=r"'torch\.optim\.SparseAdam' cannot update the weights: RuntimeError"):
        take_step(optimizer, settings)
