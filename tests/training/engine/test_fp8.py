"""Linear layers in fp8, by the same numbers off a GPU."""

from typing import Any

import pytest
import torch
from support import batch_of_thirteen as tiny
from support import option_products as products
from torch import nn
from torch.nn import functional as F

from openwit.schemas.common.errors import OpenWITError
from openwit.training.engine import build_model as building
from openwit.training.engine import fp8
from openwit.training.models.blocks import Style, Transformer

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
# Of one rounding: half a step of three and of two bits of mantissa.
ROUNDING = {E4M3: 2**-4, E5M2: 2**-3}


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found.detach().float() - wanted.detach().float()).norm() / wanted.detach().float().norm())


@pytest.mark.parametrize("kind", [E4M3, E5M2])
@pytest.mark.parametrize("size", [1e-20, 1e-3, 1.0, 1e20])
def test_rounding_is_relative_to_the_largest_number(kind: torch.dtype, size: float) -> None:
    torch.manual_seed(1)
    matrix = torch.randn(32, 48) * size
    values, scale = fp8.quantised(matrix, kind)
    back = values.float() * scale
    assert float(values.float().abs().max()) == torch.finfo(kind).max
    # Below the smallest normal number of the format steps are of one size.
    smallest = torch.finfo(kind).tiny * scale
    assert bool(((back - matrix).abs() <= ROUNDING[kind] * matrix.abs().clamp(min=smallest) * 1.001).all())
    zeros = fp8.quantised(torch.zeros(16, 16), kind)
    assert bool((zeros.values.float() * zeros.scale == 0).all())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so(bad: float) -> None:
    matrix = torch.ones(16, 16)
    matrix[3, 4] = bad
    values, scale = fp8.quantised(matrix, E4M3)
    assert not bool((values.float() * scale).isfinite().all())


@pytest.mark.parametrize("rows", [(4, 13), (32,)])
def test_a_layer_and_its_gradients_are_near_the_ordinary_ones(rows: tuple[int, ...]) -> None:
    """Thirteen rows: they are filled up for the gradient of the weights, over which it sums."""
    torch.manual_seed(2)
    plain, layer = nn.Linear(48, 32), nn.Linear(48, 32)
    layer.load_state_dict(plain.state_dict())
    layer.__class__ = fp8.Fp8Linear
    x = torch.randn(*rows, 48)
    towards = torch.randn(*rows, 32)
    found, wanted = [], []
    for module, kept in ((plain, wanted), (layer, found)):
        own = x.clone().requires_grad_()
        y = module(own)
        (y.float() * towards).sum().backward()
        assert module.weight.grad is not None
        assert module.bias.grad is not None
        kept += [y.detach(), own.grad, module.weight.grad, module.bias.grad]
    assert found[0].dtype == torch.bfloat16
    assert [error(a, b) < limit for a, b, limit in zip(found, wanted, (0.05, 0.08, 0.08, 0.01), strict=True)] == [
        True,
        True,
        True,
        True,
    ]
    # Not rounded to nothing: the products differ from bf16's.
    assert error(found[0], plain(x).bfloat16()) > 0.005
    layer.eval()
    assert torch.equal(layer(x), plain(x))


def test_the_product_is_that_of_the_rounded_numbers() -> None:
    """What `torch._scaled_mm` computes: exact products of 8 bits, summed in float32, scaled once."""
    torch.manual_seed(3)
    a, b = torch.randn(20, 64), torch.randn(16, 64) * 100
    one, other = fp8.quantised(a, E5M2), fp8.quantised(b, E4M3)
    wanted = (one.values.double() * one.scale.double()) @ (other.values.double() * other.scale.double()).t()
    with torch.autocast("cpu", torch.bfloat16):
        found = fp8.scaled_product(one, other)
    assert error(found, wanted) < 2**-8


def test_which_layers_change_and_their_names() -> None:
    model, other = tiny.make_model(), tiny.make_model()
    assert fp8.use_fp8(model) == 2 * 2 * 4  # towers, blocks, layers
    assert model.state_dict().keys() == other.state_dict().keys()
    changed = {name.rpartition(".")[2] for name, m in model.named_modules() if type(m).__name__.startswith("Fp8")}
    assert changed == {"attn", "out_proj", "c_fc", "c_proj"}
    model.eval()
    other.eval()
    inputs = tiny.make_batch()
    assert torch.equal(model.encode_image(inputs.images), other.encode_image(inputs.images))
    narrow = nn.ModuleList([nn.Linear(16, 16)])
    with pytest.raises(OpenWITError, match="no blocks whose widths are multiples of 16"):
        fp8.use_fp8(narrow)


def case_of(**more: Any) -> dict[str, Any]:
    return {**products.DEFAULTS, "tower": "vit", "precision": "bf16", **more}


def losses(case: dict[str, Any], steps: int) -> list[float]:
    stepper, _ = products.stepper_of(case, None)
    found = []
    for step in range(steps):
        figures = stepper.forward_backward(*products.batch_of(case), step=step, rank_sizes=[13])
        stepper.step(figures, step=step, lr=2e-3)
        found.append(float(figures["loss"]))
    return found


@pytest.mark.parametrize(
    ("more", "steps"),
    [({}, 16), pytest.param({"chunk": 4, "recompute": True}, 40, marks=pytest.mark.slow)],
    ids=["plain", "chunks, recomputation"],
)
def test_the_loss_is_near_that_of_bf16(more: dict[str, Any], steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = losses(case_of(**more), steps)
    monkeypatch.setattr(building, "check_fp8", lambda _: None)
    config_of = products.config_of

    def with_fp8(case: dict[str, Any]) -> Any:
        config = config_of(case)
        return config.model_copy(update={"speed": config.speed.model_copy(update={"fp8": True})})

    monkeypatch.setattr(products, "config_of", with_fp8)
    found = losses(case_of(**more), steps)
    assert found[0] == pytest.approx(plain[0], rel=0.02)
    assert found != plain
    assert plain[-1] < 0.95 * plain[0]
    late = slice(steps - 8, None)
    assert sum(found[late]) == pytest.approx(sum(plain[late]), rel=0.1)


def test_where_there_is_no_fp8_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OpenWITError, match=r"compute capability 8\.9 or higher .*on a CPU: set it to false"):
        fp8.check_fp8(torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA A100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    with pytest.raises(OpenWITError, match=r"NVIDIA A100 has 8\.0: set it to false"):
        fp8.check_fp8(torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    fp8.check_fp8(torch.device("cuda", 0))
    config = products.config_of(case_of())
    raw = config.model_dump(mode="json")
    with pytest.raises(OpenWITError, match="precision must be bf16 or auto, not fp32"):
        products.parse_settings({**raw, "precision": "fp32", "speed": {"fp8": True}}, products.TrainConfig, "case")
    asked = products.parse_settings({**raw, "speed": {"fp8": True}}, products.TrainConfig, "case")
    with pytest.raises(OpenWITError, match="this run is on a CPU"):
        building.build_model(asked, products.make_objective(asked.objective), device=tiny.CPU)


def test_the_kernel_is_called_with_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU only: rows after another, columns after another, sides of multiples of 16, at most one in e5m2."""
    calls = []

    def kernel(a: torch.Tensor, b: torch.Tensor, **options: Any) -> torch.Tensor:
        assert a.is_contiguous()
        assert b.t().is_contiguous()
        assert [side % 16 for side in (a.shape[1], *b.shape)] == [0, 0, 0]
        assert b.dtype == E4M3
        assert options["scale_a"].shape == options["scale_b"].shape == ()
        calls.append((a.dtype, options["use_fast_accum"]))
        return (a.float() @ b.float() * (options["scale_a"] * options["scale_b"])).to(options["out_dtype"])

    def on_a_gpu(one: fp8.Quantised, other: fp8.Quantised, *, fast: bool = False) -> torch.Tensor:
        return fp8._on_gpu(one, other, fast=fast)

    monkeypatch.setattr(torch, "_scaled_mm", kernel)
    monkeypatch.setattr(fp8, "scaled_product", on_a_gpu)
    layer = nn.Linear(48, 32)
    layer.__class__ = fp8.Fp8Linear
    x = torch.randn(13, 48, requires_grad=True)
    F.mse_loss(layer(x).float(), torch.zeros(13, 32)).backward()
    assert calls == [(E4M3, True), (E5M2, False), (E5M2, False)]


@pytest.mark.parametrize("causal", [True, False])
def test_attention_of_one_position_is_in_fp8_too(causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `speed.skip_unused` the last block computes a query of one position, and keys and values of all."""
    torch.manual_seed(4)
    model = Transformer(32, 1, 2, causal, Style())
    x, rows = torch.randn(3, 16, 32), torch.tensor([2, 15, 7])
    plain = model(x, rows=rows)
    fp8.use_fp8(model)
    counted: list[tuple[int, ...]] = []
    product = fp8.scaled_product

    def counting(one: fp8.Quantised, other: fp8.Quantised, **more: Any) -> torch.Tensor:
        counted.append((*one.values.shape, len(other.values)))
        return product(one, other, **more)

    monkeypatch.setattr(fp8, "scaled_product", counting)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(x, rows=rows)
    # Query, keys and values, attention's output, the two of the MLP.
    assert counted == [(3, 32, 32), (48, 32, 64), (3, 32, 32), (3, 32, 128), (3, 128, 32)]
    assert 0 < error(found, plain) < 0.1
    found.float().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    assert torch.equal(model.eval()(x, rows=rows), plain)
