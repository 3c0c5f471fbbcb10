import math
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from openwit.schemas.common.errors import OpenWITError
from openwit.training.config.zoo import ZOO
from openwit.training.models.clip import Clip
from openwit.training.models.torchscript import is_torchscript, read_torchscript
from openwit.training.models.weights import (
    into_model,
    load_weights,
    model_from_weights,
    save_safetensors,
    settings_of,
    stored_spec,
    to_open_clip,
)

NAMES = ("resnet", "vit", "convolutions")
# Channels of a head in the small models, where image and text tower agree on it.
HEAD_WIDTHS = {"resnet": 32, "vit": 16, "convolutions": 16}
EXTRAS = {"input_resolution": torch.tensor(224), "context_length": torch.tensor(77), "vocab_size": torch.tensor(9)}


def same(first: nn.Module, second: nn.Module) -> bool:
    one, two = first.state_dict(), second.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("name", NAMES)
def test_saving_and_loading_is_the_identity(small, tmp_path: Path, name: str) -> None:
    model = small.scrambled(small.specs[name])
    path = tmp_path / "model.safetensors"
    save_safetensors(model, path)
    loaded, report = model_from_weights(path)
    assert stored_spec(path) == loaded.spec == model.spec
    assert same(model, loaded)
    assert report.tensors == len(model.state_dict())
    assert (report.converted, report.ignored, report.notes) == (0, (), ())
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", list(ZOO))
def test_every_model_of_the_zoo_is_known_by_its_shapes(name: str) -> None:
    spec = ZOO[name]
    with torch.device("meta"):
        model = Clip(spec)
    state = {key.removeprefix("text."): tensor for key, tensor in model.state_dict().items()}
    assert settings_of(state, quick_gelu=spec.quick_gelu) == spec
    assert settings_of(model.state_dict(), quick_gelu=spec.quick_gelu) == spec


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layout", ["clip", "text."])
def test_both_layouts_fit(small, name: str, layout: str) -> None:
    model = small.scrambled(small.specs[name])
    state = to_open_clip(model) if layout == "clip" else model.state_dict()
    assert ("token_embedding.weight" in state) == (layout == "clip")
    other = small.scrambled(small.specs[name], seed=5)
    into_model(other, state)
    assert same(model, other)


def openai_like(model: Clip) -> dict[str, torch.Tensor]:
    """As OpenAI's archives hold it: matrices in half precision, three numbers beside the weights."""
    state = {key: tensor.half() if tensor.ndim >= 2 else tensor for key, tensor in to_open_clip(model).items()}
    return {**EXTRAS, **state}


def test_openais_weights_are_taken_up_and_known_as_theirs(small) -> None:
    model = small.scrambled(small.specs["vit"])
    state = openai_like(model)
    spec = settings_of(state, head_width=16)
    assert spec == small.specs["vit"]
    assert spec.quick_gelu
    assert not settings_of(to_open_clip(model)).quick_gelu
    fresh = Clip(spec)
    report = into_model(fresh, state)
    assert report.converted == sum(tensor.ndim >= 2 for tensor in model.state_dict().values())
    assert report.ignored == tuple(EXTRAS)
    assert report.notes == ()
    assert all(p.dtype == torch.float32 for p in fresh.parameters())
    assert torch.equal(fresh.visual.proj, model.visual.proj.half().float())
    wrong = Clip(spec.model_copy(update={"quick_gelu": False}))
    assert "QuickGELU" in into_model(wrong, state).notes[0]


class Archive(nn.Module):
    """What is traced into an archive like OpenAI's: numbers as buffers, and a tensor that is no weight."""

    def __init__(self, model: Clip) -> None:
        super().__init__()
        for key, child in model.named_children():
            self.add_module(key, child)
        self.logit_scale = model.logit_scale
        for key, tensor in EXTRAS.items():
            self.register_buffer(key, tensor)
        self.no_weight = torch.ones(3)

    def forward(self, images: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return self.visual(images) @ self.text(tokens).T * self.logit_scale * self.no_weight[0]


@pytest.fixture(scope="module")
def archive(small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archive") / "model.pt"
    model = Archive(small.scrambled(small.specs["resnet"])).eval()
    example = (torch.randn(1, 3, 64, 64), small.tokens(1, 12, 100))
    torch.jit.trace(model, example, check_trace=False).save(path)
    return path


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_archive_is_read_as_pytorch_reads_it(small, archive: Path) -> None:
    assert is_torchscript(archive)
    found, expected = read_torchscript(archive), torch.jit.load(archive).state_dict()
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        assert found[key].dtype == tensor.dtype
        assert torch.equal(found[key], tensor)
    state = load_weights(archive)
    spec = settings_of(state, head_width=32)
    assert spec.vision == small.specs["resnet"].vision
    model = Clip(spec)
    assert into_model(model, state).ignored == tuple(EXTRAS)
    assert same(model, small.scrambled(small.specs["resnet"]))


class Evil:
    def __reduce__(self) -> tuple:
        return print, ("run",)


def test_no_code_of_a_file_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pickled = tmp_path / "a.pt"
    torch.save({"state_dict": Evil()}, pickled)
    with pytest.raises(OpenWITError, match="could run code"):
        load_weights(pickled)
    archived = tmp_path / "b.pt"
    with zipfile.ZipFile(archived, "w") as file:
        file.writestr("b/constants.pkl", b"")
        file.writestr("b/data.pkl", pickle.dumps(Evil(), protocol=2))
    with pytest.raises(OpenWITError, match="names __builtin__.print"):
        load_weights(archived)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"epoch": 3, "state_dict": {f"module.{key}": tensor for key, tensor in state.items()}},
        lambda state: {"model": state, "optimizer": {"state": {}}},
        lambda state: {f"_orig_mod.{key}": tensor for key, tensor in state.items()},
    ],
)
def test_what_trainers_wrap_around_weights_comes_off(small, tmp_path: Path, wrap) -> None:
    model = small.scrambled(small.specs["vit"])
    torch.save(wrap(to_open_clip(model)), tmp_path / "weights.bin")
    other = Clip(small.specs["vit"])
    into_model(other, load_weights(tmp_path / "weights.bin"))
    assert same(model, other)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        (b"", "weights.pt"),
        (b"hello", "weights.pt"),
        ({}, "holds no state dict"),
        ([1], "holds no state dict"),
        ({"a": 1}, "'a' is no tensor"),
    ],
)
def test_files_without_weights_are_named(tmp_path: Path, content: object, words: str) -> None:
    path = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(OpenWITError, match=words):
        load_weights(path)


def test_a_cut_file_is_named(small, tmp_path: Path, archive: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_safetensors(small.scrambled(small.specs["vit"]), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(OpenWITError, match=r"model\.safetensors"):
        load_weights(path)
    with zipfile.ZipFile(archive) as whole, zipfile.ZipFile(tmp_path / "cut.pt", "w") as cut:
        for name in whole.namelist():
            if not name.endswith("/data/3"):
                cut.writestr(name, whole.read(name))
    with pytest.raises(OpenWITError, match=r"cut\.pt"):
        load_weights(tmp_path / "cut.pt")


def test_weights_that_do_not_fit_are_named_and_nothing_is_changed(small) -> None:
    model = small.scrambled(small.specs["vit"])
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    state = to_open_clip(small.scrambled(small.specs["vit"], seed=5))
    without = {key: tensor for key, tensor in state.items() if key != "ln_final.bias"}
    for wrong, words in (
        (without, "lack 'text.ln_final.bias'"),
        ({**state, "visual.head.weight": torch.ones(1)}, "hold 'visual.head.weight'"),
        ({**state, "visual.proj": torch.ones(3, 4)}, r"'visual.proj' has the shape \(3, 4\) .* but \(48, 24\)"),
        ({**state, "positional_embedding": torch.ones(77, 32)}, "'text.positional_embedding'"),
        ({**state, "visual.positional_embedding": torch.ones(16, 48)}, "'visual.positional_embedding'"),
        (to_open_clip(small.scrambled(small.specs["resnet"])), "lack 'visual.class_embedding'"),
    ):
        with pytest.raises(OpenWITError, match=words):
            into_model(model, wrong)
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())


def test_state_dicts_of_something_else_have_no_settings(small) -> None:
    state = to_open_clip(small.scrambled(small.specs["vit"]))
    with pytest.raises(OpenWITError, match="lack 'text.ln_final.weight'"):
        settings_of({"weight": torch.ones(2)})
    with pytest.raises(OpenWITError, match="no square"):
        settings_of({**state, "visual.positional_embedding": torch.ones(12, 48)})
    with pytest.raises(OpenWITError, match="which no CLIP of this layout has"):
        settings_of({**state, "text_projection": torch.ones(3)})


def test_what_sharded_and_old_files_have_otherwise_is_taken(small) -> None:
    model = small.scrambled(small.specs["resnet"])
    state = {key: tensor for key, tensor in to_open_clip(model).items() if not key.endswith("num_batches_tracked")}
    state["logit_scale"] = state["logit_scale"].reshape(1)
    other = Clip(small.specs["resnet"])
    into_model(other, state)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_a_position_embedding_is_resized_and_told(small, name: str) -> None:
    spec = small.specs[name]
    model = small.scrambled(spec)
    larger_spec = spec.model_copy(update={"vision": spec.vision.model_copy(update={"image_size": 128})})
    larger = Clip(larger_spec)
    key = "visual.positional_embedding" if name == "vit" else "visual.attnpool.positional_embedding"
    report = into_model(larger, to_open_clip(model))
    old, new = model.state_dict()[key], larger.state_dict()[key]
    side, wide = math.isqrt(len(old) - 1), math.isqrt(len(new) - 1)
    assert report.notes == (f"{key} was resized from {side} x {side} positions to {wide} x {wide}",)
    assert torch.equal(old[0], new[0])
    channels = old.shape[1]
    expected = nn.functional.interpolate(
        old[1:].T.reshape(1, channels, side, side), size=wide, mode="bicubic", antialias=True
    )
    torch.testing.assert_close(new[1:].T.reshape(1, channels, wide, wide), expected)
    assert larger.encode_image(torch.randn(2, 3, 128, 128)).shape == (2, 24)


def test_what_shapes_do_not_tell_is_assumed_aloud(small, tmp_path: Path) -> None:
    model = small.scrambled(small.specs["vit"])
    torch.save(to_open_clip(model), tmp_path / "a.pt")
    heads, activation = model_from_weights(tmp_path / "a.pt")[1].notes
    assert "64 channels wide" in heads
    assert "quick_gelu" in activation
    loaded, report = model_from_weights(tmp_path / "a.pt", quick_gelu=True)
    assert report.notes == (heads,)
    assert loaded.spec.quick_gelu
    save_safetensors(model, tmp_path / "b.safetensors")
    assert not model_from_weights(tmp_path / "b.safetensors", quick_gelu=False)[0].spec.quick_gelu


def test_the_file_is_a_plain_safetensors_file(small, tmp_path: Path) -> None:
    model = small.scrambled(small.specs["resnet"])
    path = tmp_path / "model.safetensors"
    save_safetensors(model, path)
    assert load_file(path).keys() == to_open_clip(model).keys()
    save_file(to_open_clip(model), path)
    assert stored_spec(path) is None
    assert settings_of(load_weights(path), head_width=HEAD_WIDTHS["resnet"]).vision == model.spec.vision
