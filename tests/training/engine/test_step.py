import math
from typing import Any

import pytest
import torch
from support import batch_of_thirteen as tiny
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from openwit.schemas.common.settings import parse_settings
from openwit.training.config import TrainConfig
from openwit.training.engine.build_model import build_model
from openwit.training.engine.runtime import make_autocast
from openwit.training.engine.step import Stepper, step_seed
from openwit.training.models.vit import PatchDropoutRng
from openwit.training.objectives.registry import make_objective

CPU = torch.device("cpu")


@pytest.fixture
def stepper(configure: Any) -> Any:
    def make(spec: Any = None, **sections: Any) -> tuple[Stepper, nn.Module]:
        model = {"spec": (spec or tiny.SPEC).model_dump(mode="json"), "patch_dropout": 0.5 if spec is None else 0.0}
        config = parse_settings(configure(**{"model": model, **sections}), TrainConfig, "config")
        objective = make_objective(config.objective)
        made = build_model(config, objective, device=CPU)
        autocast = make_autocast(CPU, config.precision)
        return Stepper(config, made, objective=objective, device=CPU, autocast=autocast, group=None), made

    return make


def step(stepper: Stepper, inputs: Any, number: int = 0, lr: float = 1e-3) -> dict[str, torch.Tensor]:
    figures = stepper.forward_backward(inputs.images, inputs.tokens, step=number, rank_sizes=[len(inputs.images)])
    stepper.step(figures, step=number, lr=lr)
    return figures


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_chunks_change_nothing(stepper: Any) -> None:
    ends = []
    for chunk in (None, 4):
        one, model = stepper(memory={"chunk": chunk}, optim={"grad_clip": 0.5})
        for number in range(3):
            figures = step(one, tiny.make_batch(), number)
        assert float(figures["grad_norm"]) > 0.5
        ends.append(weights(model))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-4, atol=1e-6)


def test_the_clip_is_that_of_pytorch(stepper: Any) -> None:
    clipped, model = stepper(optim={"grad_clip": 0.1})
    plain, other = stepper()
    inputs = tiny.make_batch()
    figures = [s.forward_backward(inputs.images, inputs.tokens, step=0, rank_sizes=[13]) for s in (clipped, plain)]
    clipped._unscale_and_clip(figures[0]["grad_norm"])
    norm = nn.utils.clip_grad_norm_(other.parameters(), 0.1)
    torch.testing.assert_close(figures[0]["grad_norm"], norm)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


def test_a_step_that_is_not_finite_leaves_the_weights(stepper: Any) -> None:
    one, model = stepper(ema={"decay": 0.9})
    step(one, tiny.make_batch())
    before, average = weights(model), one.ema.state()["visual.proj"].clone()
    bad = tiny.make_batch()
    bad.images[3] = math.inf
    figures = step(one, bad, 1)
    assert not figures["loss"].isfinite()
    assert torch.equal(weights(model), before)
    assert one.ema.state()["visual.proj"].isfinite().all()
    assert not torch.equal(one.ema.state()["visual.proj"], average)
    step(one, tiny.make_batch(), 2)
    assert weights(model).isfinite().all()
    assert not torch.equal(weights(model), before)


def test_float16_learns_and_its_scale_is_kept(stepper: Any) -> None:
    one, model = stepper(precision="fp16", optim={"lr": 1e-2})
    losses, scales = [], []
    for number in range(8):
        figures = step(one, tiny.make_batch(), number, 3e-3)
        losses.append(float(figures["loss"]))
        scales.append(float(figures["loss_scale"]))
    assert losses[-1] < losses[0]
    one._scale.value.fill_(2.0**60)  # overflows
    before = weights(model)
    figures = step(one, tiny.make_batch(), 9)
    assert not figures["grad_norm"].isfinite()
    assert torch.equal(weights(model), before)
    other, _ = stepper(precision="fp16")
    other.restore(one.state())
    assert float(other._scale.value) == 2.0**59


def test_a_state_is_taken_up_by_another(stepper: Any) -> None:
    one, model = stepper(ema={"decay": 0.9})
    other, copy = stepper(ema={"decay": 0.9}, seed=8)
    for number in range(2):
        step(one, tiny.make_batch(), number)
    other.restore(one.state())
    for each in (one, other):
        each._config = one._config
        step(each, tiny.make_batch(), 2)
    assert torch.equal(weights(model), weights(copy))
    assert torch.equal(one.ema.state()["visual.proj"], other.ema.state()["visual.proj"])


@pytest.mark.parametrize("tower", ["vit", "resnet"])
def test_recomputation_changes_no_gradient_and_no_statistic(stepper: Any, tower: str) -> None:
    spec = tiny.RESNET if tower == "resnet" else None
    inputs = tiny.make_batch(8, 32 if spec else 16)
    found = []
    for again in (False, True):
        one, model = stepper(spec, memory={"checkpoint_activations": again})
        one.forward_backward(inputs.images, inputs.tokens, step=0, rank_sizes=[8])
        found.append(({n: p.grad for n, p in model.named_parameters()}, dict(model.named_buffers())))
    for name, gradient in found[0][0].items():
        torch.testing.assert_close(found[1][0][name], gradient, rtol=1e-4, atol=1e-6)
    for name, buffer in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], buffer)


@pytest.mark.parametrize("tower", ["vit", "resnet", "convolutions"])
def test_channels_last_changes_no_gradient(stepper: Any, tower: str) -> None:
    spec = {"vit": None, "resnet": tiny.RESNET, "convolutions": tiny.CONVOLUTIONS}[tower]
    inputs = tiny.make_batch(8, 32 if tower == "resnet" else 16)
    found = []
    for last in (False, True):
        one, model = stepper(spec, speed={"channels_last": last})
        first = next(module for module in model.visual.modules() if isinstance(module, nn.Conv2d))
        assert first.weight.is_contiguous(memory_format=torch.channels_last) or not last
        one.forward_backward(inputs.images, inputs.tokens, step=0, rank_sizes=[8])
        found.append([p.grad for p in model.parameters()])
    for one_gradient, other in zip(*found, strict=True):
        torch.testing.assert_close(one_gradient, other, rtol=1e-3, atol=1e-5)


def test_compiled_towers_learn_the_same(stepper: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the compiler's front end only: its C++ takes a minute on a busy machine."""
    original = nn.Module.compile
    kept = []

    def fronted(self: nn.Module, *, mode: str, dynamic: bool) -> None:
        kept.append((mode, dynamic))
        original(self, backend="eager", dynamic=dynamic)

    monkeypatch.setattr(nn.Module, "compile", fronted)
    ends = []
    for compiled in (False, True):
        one, model = stepper(speed={"compile": compiled, "compile_mode": "max-autotune"}, memory={"chunk": 7})
        for number in range(2):
            step(one, tiny.make_batch(), number)
        ends.append(weights(model))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-4, atol=1e-6)
    assert kept == [("max-autotune", False)] * 2


def test_chance_is_a_samples_own() -> None:
    whole = PatchDropoutRng(5, 0).draw(100, 49, CPU)
    parts = [PatchDropoutRng(5, 0).draw(33, 49, CPU), PatchDropoutRng(5, 33).draw(67, 49, CPU)]
    assert torch.equal(whole, torch.cat(parts))
    assert len(whole.unique()) == whole.numel()
    kept = (PatchDropoutRng(9, 0).draw(4000, 49, CPU).topk(24, dim=1).indices).flatten().bincount(minlength=49)
    # Each patch is kept alike often: 24/49 of 4,000 times, within five standard deviations.
    assert (kept - 4000 * 24 / 49).abs().max() < 5 * (4000 * 0.25) ** 0.5
    assert not torch.equal(PatchDropoutRng(6, 0).draw(2, 5, CPU), PatchDropoutRng(5, 0).draw(2, 5, CPU))


def test_attention_reaches_the_flash_kernel_causal_text_included() -> None:
    model, inputs = tiny.make_model(), tiny.make_batch()
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        images, texts = model.encode_image(inputs.images), model.encode_text(inputs.tokens)
    assert images.isfinite().all()
    assert texts.isfinite().all()


def test_step_seeds_are_distinct_and_fit_torch() -> None:
    seeds = {step_seed(0, step) for step in range(1000)} | {step_seed(1, step) for step in range(1000)}
    assert len(seeds) == 2000
    assert all(0 <= seed < 2**63 for seed in seeds)
