"""Locked towers, rates by tower and layer, other optimisers, shapes of the schedule, and weighted means."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.common.settings import parse_settings
from openwit.training.checkpoints.files import Checkpoint, latest_checkpoint
from openwit.training.checkpoints.initial import read_init
from openwit.training.config import OptimSettings, ScheduleSettings, TrainConfig
from openwit.training.config.duration import Horizon, Position
from openwit.training.config.lock import LockSettings
from openwit.training.config.zoo import ClipSpec, ResNetSpec, TextSpec, VisionSpec
from openwit.training.engine.optim import make_optimizer, set_learning_rate
from openwit.training.engine.places import lock
from openwit.training.engine.schedule import Schedule
from openwit.training.models.clip import Clip
from openwit.training.run.averaging import average_checkpoints
from openwit.training.run.loop import fit
from openwit.training.run.progress import SilentDisplay

TEXT = TextSpec(context_length=6, vocabulary=20, width=16, layers=3, heads=2)
SPEC = ClipSpec(embed_dim=8, vision=VisionSpec(image_size=16, patch_size=8, width=16, layers=3, heads=2), text=TEXT)


def train(raw: dict[str, Any]) -> Checkpoint:
    fit(parse_settings(raw, TrainConfig, "config"), display=SilentDisplay())
    found = latest_checkpoint(Path(raw["run"]), print)
    assert found is not None
    return found


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in after if not torch.equal(before[name], after[name])}


@pytest.fixture
def small(configure: Any, tmp_path: Path) -> Any:
    def make(name: str = "run", **more: Any) -> dict[str, Any]:
        base = {
            "run": str(tmp_path / name),
            "schedule": {"duration": "4 steps", "warmup": "0%"},
            "checkpoint": {"every": "2 steps", "keep": 9},
            "eval": {"split": None},
        }
        made: dict[str, Any] = configure(**{**base, **more})
        return made

    return make


@pytest.mark.parametrize("chunk", [None, 7])
def test_a_locked_tower_keeps_every_bit(small: Any, chunk: int | None) -> None:
    spec = small()["model"]["spec"]
    resnet = {"kind": "resnet", "image_size": 32, "layers": [1, 1, 1, 1], "width": 4, "heads": 4}
    first = train(small("first", model={"spec": {**spec, "vision": resnet}}))
    model = {"init": str(small("first")["run"]), "lock": {"image": "all"}}
    raw = small("locked", model=model, memory={"chunk": chunk}, ema={"decay": 0.5}, optim={"weight_decay": 0.5})
    locked = train(raw)
    moved = changed(first.model_state, locked.model_state)
    assert {name.split(".")[0] for name in moved} == {"text", "logit_scale"}
    # Running statistics too, and the moving average.
    assert not any(name.startswith("visual.") for name in changed(first.model_state, locked.state["ema"]) & set(moved))
    assert all(torch.equal(v, first.model_state[k]) for k, v in locked.state["ema"].items() if k.startswith("visual."))
    assert not any(name.startswith("visual.") for name in locked.state["optimizer"])
    # A fork that frees it takes over the optimiser's state of the text tower.
    freed = train(small("freed", model={"init": model["init"]}, fork=raw["run"], schedule={"duration": "6 steps"}))
    assert any(name.startswith("visual.") for name in changed(locked.model_state, freed.model_state))


def test_the_last_blocks_stay_free() -> None:
    model = Clip(SPEC)
    lock(model, LockSettings(image=1, text=0, norms=True))
    free = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all("ln_" not in name for name in free)
    assert {name for name in free if name.startswith("text.")} == {"text.text_projection"}
    visual = {name for name in free if name.startswith("visual.")}
    assert all(name == "visual.proj" or ".resblocks.2." in name for name in visual)
    assert len(visual) > 4
    assert "logit_scale" in free
    with pytest.raises(OpenWITError, match="4 blocks are to be free, but the tower has 3"):
        lock(Clip(SPEC), LockSettings(image=4))
    with pytest.raises(OpenWITError, match="no image tower"):
        lock(nn.Linear(2, 2), LockSettings(image="all"))


def test_the_stages_of_a_resnet_and_its_statistics() -> None:
    model = Clip(SPEC.model_copy(update={"vision": ResNetSpec(image_size=32, layers=(1, 1, 1, 1), width=4, heads=4)}))
    lock(model, LockSettings(image=1))
    model.train()
    assert not model.visual.bn1.training
    assert not model.visual.layer3[0].bn1.training
    assert model.visual.layer4[0].bn1.training
    assert model.visual.attnpool.c_proj.weight.requires_grad


def test_rates_by_tower_layer_and_head() -> None:
    model = Clip(SPEC)
    settings = OptimSettings(lr=0.1, image_lr=0.01, layer_decay=0.5)
    optimizer = make_optimizer(model, settings, head_apart=True)
    set_learning_rate(optimizer, 0.1, 0.3)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    found = {name: rates[id(p)] for name, p in model.named_parameters()}
    expected = {
        "visual.conv1.weight": 0.01 * 0.5**4,
        "visual.transformer.resblocks.0.ln_1.weight": 0.01 * 0.5**3,
        "visual.transformer.resblocks.2.mlp.c_fc.weight": 0.01 * 0.5,
        "visual.ln_post.weight": 0.01,
        "visual.proj": 0.3 * 0.1,
        "text.token_embedding.weight": 0.1 * 0.5**4,
        "text.text_projection": 0.3,
        "logit_scale": 0.3,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def rates(**settings: Any) -> list[tuple[float, float | None]]:
    made = ScheduleSettings.model_validate({"duration": "100 steps", **settings})
    horizon = Horizon.of(made.duration, 100, 10)
    schedule = Schedule(made, horizon, 1.0)
    places = [(Position(n, 10 * n, 0), Position(n + 1, 10 * n + 10, 0)) for n in range(100)]
    return [(schedule.rate(*place), schedule.head_rate(*place)) for place in places]


def test_shapes_of_the_schedule() -> None:
    constant = [rate for rate, _ in rates(shape="constant", warmup="10%")]
    assert constant[4] == pytest.approx(0.5)
    assert set(constant[10:]) == {1.0}
    cooled = [rate for rate, _ in rates(shape="constant_with_cooldown", cooldown="20%", floor=0.1)]
    assert cooled[79] == cooled[80] == 1
    assert cooled[85] == pytest.approx(0.1 + 0.9 * (1 - 0.25**0.5))
    assert [rate for rate, _ in rates(floor=0.2)][-1] == pytest.approx(0.2, abs=0.01)
    with pytest.raises(OpenWITError, match="longer than the run"):
        rates(shape="constant_with_cooldown", warmup="50%", cooldown="60%")


def test_the_head_warms_up_first() -> None:
    found = rates(head_warmup="10%", warmup="10%")
    assert [rate for rate, _ in found[:10]] == [0.0] * 10
    assert [head for _, head in found[:10]] == pytest.approx([(n + 1) / 10 for n in range(10)])
    assert found[10][0] == pytest.approx(0.1)
    assert found[19] == (pytest.approx(1.0), 1.0)
    assert found[60][0] == found[60][1] < 1


def test_while_the_head_warms_up_nothing_else_moves(small: Any) -> None:
    schedule = {"duration": "4 steps", "warmup": "0%", "head_warmup": "50%"}
    last = train(small(schedule=schedule))
    middle = torch.load(last.path.parent / "step-000000002.pt")["model"]
    initial = train(small("still", schedule=schedule, optim={"lr": 1e-30})).model_state
    head = {"visual.proj", "text.text_projection", "logit_scale"}
    # At that rate biases move from zero by as much as nothing.
    assert {name for name in initial if (initial[name] - middle[name]).abs().max() > 1e-20} == head
    assert len(changed(middle, last.model_state)) > len(head)


@pytest.mark.parametrize(
    "optim", [{"name": "muon", "lr": 1e-3}, {"name": "torch.optim.SGD", "options": {"momentum": 0.9}}]
)
def test_other_optimisers_learn_and_resume(small: Any, optim: dict[str, Any]) -> None:
    whole, parts = train(small("whole", optim=optim)), train(small("parts", optim=optim))
    for path in parts.path.parent.glob("step-000000004.*"):
        path.unlink()
    resumed = train(small("parts", optim=optim))
    assert changed(whole.model_state, resumed.model_state) == set()
    key = "momentum_buffer"
    assert key in resumed.state["optimizer"]["visual.transformer.resblocks.0.mlp.c_fc.weight"]


def test_a_step_that_is_not_finite_is_skipped_by_an_optimiser_that_does_not_know_it(
    small: Any, monkeypatch: Any
) -> None:
    from openwit.training.engine.step import Stepper

    original = Stepper.step

    def planted(self: Stepper, metrics: dict[str, torch.Tensor], *, step: int, **more: Any) -> None:
        norm = torch.tensor(float("nan")) if step == 1 else metrics["grad_norm"]
        original(self, {**metrics, "grad_norm": norm}, step=step, **more)

    monkeypatch.setattr(Stepper, "step", planted)
    optim = {"name": "muon"}
    last = train(small(optim=optim, checkpoint={"every": "1 steps", "keep": 9}))
    one, two, three = (torch.load(last.path.parent / f"step-00000000{n}.pt")["model"] for n in (1, 2, 3))
    assert changed(one, two) == set()
    assert changed(two, three)


def test_optimisers_that_cannot_be_made(small: Any) -> None:
    for optim, message in (
        ({"name": "lion"}, "must be adamw, muon or a dotted name"),
        ({"name": "torch.optim.Nothing"}, "has no attribute"),
        ({"name": "torch.optim.SGD", "options": {"wings": 2}}, "wings"),
    ):
        with pytest.raises(OpenWITError, match=message):
            train(small(optim["name"], optim=optim))


def test_a_mean_with_shares_of_weights_before_and_after(small: Any, tmp_path: Path) -> None:
    first = train(small("first"))
    second = train(small("second", model={"init": small("first")["run"]}))
    for name in ("mean.safetensors", "mean.pt"):
        paths = [first.path, second.path]
        average_checkpoints(paths, tmp_path / name, shares=[0.3, 0.7])
        mean = read_init(tmp_path / name, report=print).state
        for key, tensor in mean.items():
            expected = 0.3 * first.model_state[key].double() + 0.7 * second.model_state[key].double()
            torch.testing.assert_close(tensor.double(), expected, rtol=1e-6, atol=1e-7)
    with pytest.raises(OpenWITError, match="2 numbers of 0 or more whose sum is 1"):
        average_checkpoints(paths, tmp_path / "other.pt", shares=[0.5, 0.6])
