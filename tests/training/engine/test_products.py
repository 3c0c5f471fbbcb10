"""Every option that decides how a step is computed, with the values that a GPU takes by default, and in pairs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support import batch_of_thirteen as tiny
from support import option_products as products
from support.nursery import Nursery
from torch import nn

from openwit.schemas.common.errors import OpenWITError
from openwit.training.engine import step as step_module
from openwit.training.engine.build_model import build_model
from openwit.training.objectives.registry import make_objective

DEFAULTS, GPU = products.DEFAULTS, products.GPU
PAIRS = products.pairwise(products.FACTORS)


def by_two(
    nursery: Nursery, folder: Path, cases: list[dict[str, Any]], seconds: float = 100
) -> list[dict[str, torch.Tensor]]:
    (folder / "cases.json").write_text(json.dumps(cases))
    arguments = [tiny.__file__, str(folder / "cases.json"), str(folder / "out.pt")]
    ended = nursery.programs(arguments, seconds=seconds)
    assert [code for code, _, _ in ended] == [0, 0], ended
    found: list[dict[str, torch.Tensor]] = torch.load(folder / "out.pt")
    return found


def test_a_resnet_whose_blocks_are_computed_again_compiles() -> None:
    case = {**DEFAULTS, **GPU, "tower": "resnet", "compile": True, "recompute": True}
    found = []
    for compiled in (True, False):
        with products.front_end_only("eager"):
            stepper, model = products.stepper_of({**case, "compile": compiled}, None)
            figures = stepper.forward_backward(*products.batch_of(case), step=0, rank_sizes=[12])
        found.append((figures["loss"], figures["grad_norm"], model.visual.bn1.running_mean))
    torch.testing.assert_close(*found)


@pytest.mark.slow
def test_all_options_in_pairs(tmp_path: Path, nursery: Nursery) -> None:
    shared = [case for case in PAIRS if case["strategy"] is not None]
    found = by_two(nursery, tmp_path, shared, seconds=900)
    for case, answer in zip(shared, found, strict=True):
        products.check(case, answer)
    for case in PAIRS:
        if case["strategy"] is None:
            products.check(case, products.run(case))


def test_the_pairs_are_all_there() -> None:
    factors = {"a": (1, 2), "b": (1, 2), "c": (1, 2, 3)}
    cases = products.pairwise(factors)
    assert len(cases) == 6
    assert {(case["b"], case["c"]) for case in cases} == {(b, c) for b in (1, 2) for c in (1, 2, 3)}
    assert len(PAIRS) < 16


@pytest.mark.slow
def test_the_code_that_is_generated_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """With inductor itself; chunks of one size, towers of one block: each further one is compiled for ten seconds."""
    monkeypatch.setattr(products, "samples_of", lambda _: 12)
    towers = {name: getattr(tiny.SPEC, name).model_copy(update={"layers": 1}) for name in ("vision", "text")}
    monkeypatch.setattr(tiny, "SPEC", tiny.SPEC.model_copy(update=towers))
    # Both models have the second's layout, that of a GPU: the first one's code is there for the second.
    stepper_of = products.stepper_of
    monkeypatch.setattr(products, "stepper_of", lambda case, group: stepper_of({**case, "channels_last": True}, group))
    case = {**DEFAULTS, "tower": "vit", "compile": True, "chunk": 4}
    plain = products.run({**case, "compile": False})
    original = nn.Module.compile
    with monkeypatch.context() as patched:
        patched.setattr(products, "front_end_only", lambda: patched.context())
        found = products.run(case)
    assert nn.Module.compile is original
    torch.testing.assert_close(found["loss 1"], plain["loss 1"], rtol=1e-4, atol=1e-4)


class _SameMemory(torch.autograd.Function):
    """What a CUDA graph does: each run writes its results, gradients included, to where the last run wrote them."""

    places: dict[tuple[int, torch.Size], torch.Tensor] = {}

    @classmethod
    def keep(cls, owner: int, tensor: torch.Tensor) -> torch.Tensor:
        place = cls.places.setdefault((owner, tensor.shape), torch.empty_like(tensor))
        return place.copy_(tensor.detach())

    @staticmethod
    def forward(ctx: Any, owner: int, tensor: torch.Tensor) -> torch.Tensor:
        ctx.owner = owner
        return _SameMemory.keep(owner, tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return None, _SameMemory.keep(-ctx.owner, gradients[0])


@pytest.mark.parametrize("tower", ["vit", "resnet"])
def test_gradients_survive_results_in_the_same_memory(tower: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As CUDA graphs have it (pytorch issues 96693 and 169545); simulated, as they need a GPU."""
    case = {**DEFAULTS, "tower": tower, "chunk": 4}
    plain = products.run(case)

    def graphed(self: nn.Module, **_: Any) -> None:
        original = self.forward

        def run(*inputs: torch.Tensor) -> torch.Tensor:
            held = dict(self.named_parameters())
            passed = {name: _SameMemory.apply(id(p), p) for name, p in held.items()}  # type: ignore[no-untyped-call]
            outputs: torch.Tensor = torch.func.functional_call(_Forward(self, original), _prefixed(passed), inputs)
            if not torch.is_grad_enabled():
                return _SameMemory.keep(id(self), outputs)
            return outputs

        self.forward = run  # type: ignore[method-assign]

    marks: list[int] = []
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: marks.append(1))
    monkeypatch.setattr(step_module, "uses_cuda_graphs", lambda config, _: config.speed.compile)
    monkeypatch.setattr(nn.Module, "compile", graphed)
    monkeypatch.setattr(products, "front_end_only", lambda: pytest.MonkeyPatch.context())
    found = products.run({**case, "compile": True})
    assert len(marks) == 2 * 2 * -(-products.samples_of(case) // 4)  # steps, passes, chunks
    for name, tensor in plain.items():
        if not name.endswith(("k_proj.bias", "in_proj_bias")):  # a key's bias has no gradient but rounding
            torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


class _Forward(nn.Module):
    def __init__(self, module: nn.Module, forward: Any) -> None:
        super().__init__()
        self.module = module
        self.original = forward

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.original(*inputs)


def _prefixed(parameters: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"module.{name}": tensor for name, tensor in parameters.items()}


@pytest.mark.parametrize(
    ("case", "why"),
    [
        ({"strategy": "fsdp"}, "shards move in memory"),
        ({"tower": "resnet", "recompute": True}, "cannot be computed again"),
    ],
)
@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_cuda_graphs_that_cannot_be_are_refused(case: dict[str, Any], why: str, mode: str) -> None:
    config = products.config_of({**DEFAULTS, "tower": "vit", "compile": True, **case})
    config = config.model_copy(update={"speed": config.speed.model_copy(update={"compile_mode": mode})})
    with pytest.raises(OpenWITError, match=f"compile_mode {mode} .*{why}.*: use default"):
        build_model(config, make_objective(config.objective), device=tiny.CPU)


@pytest.mark.slow
def test_a_decoder_of_captions_compiles() -> None:
    """Its shapes that depend on the data are left to the interpreter."""
    case = {**DEFAULTS, "tower": "vit", "objective": "contrastive_captioning", "compile": True}
    products.check(case, products.run(case))
