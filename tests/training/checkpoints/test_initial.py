"""Weights to begin from: every layout, what does not fit, and what is said about it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from openwit.schemas.common.errors import OpenWITError
from openwit.training.checkpoints.initial import InitWeights, architecture, load_init, read_init
from openwit.training.config.init import InitSettings
from openwit.training.config.zoo import ClipSpec, TextSpec, VisionSpec
from openwit.training.export.hugging_face import model_config
from openwit.training.export.open_clip import model_config as open_clip_config
from openwit.training.models.clip import Clip
from openwit.training.models.hugging_face import from_hugging_face, spec_of_config, to_hugging_face
from openwit.training.models.open_clip import spec_of_open_clip
from openwit.training.models.weights import save_safetensors, to_open_clip

SPEC = ClipSpec(
    embed_dim=24,
    quick_gelu=True,
    vision=VisionSpec(image_size=32, patch_size=8, width=32, layers=2, heads=2),
    text=TextSpec(context_length=12, vocabulary=100, width=16, layers=1, heads=4),
)
WIDE = ClipSpec(
    embed_dim=24,
    quick_gelu=True,
    vision=VisionSpec(image_size=32, patch_size=8, width=64, layers=1, heads=1),
    text=TextSpec(context_length=12, vocabulary=100, width=64, layers=1, heads=1),
)


def model(spec: ClipSpec = SPEC, seed: int = 0, **more: Any) -> Clip:
    torch.manual_seed(seed)
    return Clip(spec, **more)


def hugging_face(folder: Path, source: Clip, *, sharded: bool = False) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(model_config(source.spec)))
    state = to_hugging_face(source.state_dict())
    if not sharded:
        torch.save(state, folder / "pytorch_model.bin")
        return folder
    parts = {"a.safetensors": dict(list(state.items())[:7]), "b.safetensors": dict(list(state.items())[7:])}
    for name, part in parts.items():
        save_file(part, folder / name)
    places = {key: name for name, part in parts.items() for key in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return folder


def open_clip(folder: Path, source: Clip) -> Path:
    folder.mkdir()
    config = {"model_cfg": open_clip_config(source), "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.save(to_open_clip(source), folder / "open_clip_pytorch_model.bin")
    return folder


def openai(path: Path, source: Clip) -> Path:
    extras = {"input_resolution": 32, "context_length": 12, "vocab_size": 100}
    state = {k: v.half() if v.ndim >= 2 else v for k, v in to_open_clip(source).items()}
    torch.save({**state, **{key: torch.tensor(value) for key, value in extras.items()}}, path)
    return path


def ours(path: Path, source: Clip) -> Path:
    save_safetensors(source, path)
    return path


def trainer_of_open_clip(path: Path, source: Clip) -> Path:
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in to_open_clip(source).items()}}, path)
    return path


def read(path: Path, **more: Any) -> InitWeights:
    return read_init(path, report=print, **more)


def begun(source: InitWeights, target: Clip, **settings: Any) -> Any:
    return load_init(target, source, InitSettings(weights=source.path, **settings))


LAYOUTS = {
    "hf": (hugging_face, SPEC),
    "hf sharded": (lambda path, source: hugging_face(path, source, sharded=True), SPEC),
    "open_clip folder": (open_clip, SPEC),
    "openai": (openai, WIDE),
    "ours": (ours, SPEC),
    "open_clip trainer": (trainer_of_open_clip, WIDE),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_model_and_its_architecture(tmp_path: Path, layout: str) -> None:
    write, spec = LAYOUTS[layout]
    source = model(spec)
    found = read(write(tmp_path / "weights.pt" if layout != "ours" else tmp_path / "w.safetensors", source))
    assert found.spec is not None
    assert found.spec.model_copy(update={"quick_gelu": True, "images": spec.images}) == spec
    assert found.stated == (layout not in ("openai", "open_clip trainer"))
    assert (found.spec.images.mean == (0.5, 0.5, 0.5)) == (layout == "open_clip folder")
    target = model(architecture(found, InitSettings(weights=found.path)), seed=1)
    origin = begun(found, target)
    assert (origin.left_out, origin.initial, origin.loaded) == ([], [], len(target.state_dict()))
    assert len(origin.sha256) == 64
    for name, tensor in source.state_dict().items():
        tolerance = {"rtol": 0, "atol": 1e-3 if layout == "openai" else 0}
        torch.testing.assert_close(target.state_dict()[name], tensor, **tolerance, msg=name)


def test_names_of_transformers_and_back_are_the_identity() -> None:
    state = model().state_dict()
    back = from_hugging_face({**to_hugging_face(state), "text_model.embeddings.position_ids": torch.arange(12)[None]})
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)
    assert spec_of_config(model_config(SPEC), "config.json") == SPEC
    assert spec_of_config({"model_type": "clip"}, "config.json").vision == VisionSpec()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "siglip2"}, "siglip2"),
        ({"model_type": "bert"}, "type 'bert'"),
        (
            {"model_type": "clip", "text_config": {"hidden_act": "relu"}},
            "hidden_act is 'relu', which is not built here",
        ),
        ({"model_type": "clip", "vision_config": {"layer_norm_eps": 1e-6}}, "layer_norm_eps"),
        ({"model_type": "clip", "vision_config": {"hidden_act": "gelu"}}, "different activations"),
    ],
)
def test_architectures_that_are_not_ours_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(OpenWITError, match=message):
        spec_of_config(config, "config.json")


def test_parts_of_open_clip_that_are_not_ours_are_refused() -> None:
    config = {"embed_dim": 8, "vision_cfg": {"timm_model_name": "convnext"}, "text_cfg": {}}
    with pytest.raises(OpenWITError, match="vision_cfg.timm_model_name is 'convnext'"):
        spec_of_open_clip(config, "open_clip_config.json")


def test_it_is_strict(tmp_path: Path) -> None:
    source = read(ours(tmp_path / "w.safetensors", model()))
    larger = SPEC.model_copy(update={"vision": SPEC.vision.model_copy(update={"layers": 3})})
    with pytest.raises(OpenWITError, match=r"lacks 'visual.transformer.resblocks.2"):
        begun(source, model(larger))
    smaller = SPEC.model_copy(update={"vision": SPEC.vision.model_copy(update={"layers": 1})})
    with pytest.raises(OpenWITError, match="which the model does not have"):
        begun(source, model(smaller))
    with pytest.raises(OpenWITError, match=r"set model.quick_gelu: true"):
        begun(source, model(SPEC.model_copy(update={"quick_gelu": False})))
    heads = SPEC.model_copy(update={"vision": SPEC.vision.model_copy(update={"heads": 4})})
    with pytest.raises(OpenWITError, match=r"vision.heads 2, but the model has 4"):
        begun(source, model(heads))
    resized = SPEC.model_copy(update={"vision": SPEC.vision.model_copy(update={"image_size": 64})})
    target = model(resized, seed=3)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(OpenWITError, match=r"set model.init.resize: true"):
        begun(source, target)
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())


@pytest.mark.parametrize(("context", "how"), [(8, "cut from 12 to 8"), (20, "interpolated (linear) from 12 to 20")])
def test_positions_are_resized_on_request_and_said(tmp_path: Path, context: int, how: str) -> None:
    source = read(ours(tmp_path / "w.safetensors", model()))
    settings = InitSettings(weights=source.path, resize=True, image_size=64, context_length=context)
    target = model(architecture(source, settings), seed=1)
    origin = load_init(target, source, settings)
    assert "from 17 to 65 positions" in origin.notes[0]
    assert sum(how in note for note in origin.notes) == 1
    if context == 8:
        tokens = torch.tensor([[98, 5, 99, 0, 0, 0, 0, 0]])
        torch.testing.assert_close(target.encode_text(tokens), model().encode_text(tokens))


def test_one_tower_only_and_what_keeps_its_initial_values(tmp_path: Path) -> None:
    source = read(ours(tmp_path / "w.safetensors", model()))
    target, untouched = model(seed=1, init_logit_bias=-10.0), model(seed=1)
    origin = begun(source, target, parts="image")
    assert {name.split(".")[0] for name in origin.left_out} == {"text", "logit_scale"}
    assert {name.split(".")[0] for name in origin.initial} == {"text", "logit_scale", "logit_bias"}
    for name, tensor in untouched.state_dict().items():
        expected = model().state_dict()[name] if name.startswith("visual.") else tensor
        assert torch.equal(target.state_dict()[name], expected)
    said = origin.sentences()
    assert said[1].startswith("not loaded: ")
    assert said[2].startswith("left at initial values: logit_scale")


def test_the_activation_that_a_file_does_not_state_is_said(tmp_path: Path) -> None:
    bare = read(trainer_of_open_clip(tmp_path / "w.pt", model(WIDE)))
    assert any("set model.quick_gelu: true" in note for note in bare.notes)
    told = read(tmp_path / "w.pt", quick_gelu=True)
    assert told.spec is not None
    assert told.spec.quick_gelu
    assert not any("quick_gelu" in note for note in told.notes)
    assert any("QuickGELU" in note for note in read(openai(tmp_path / "o.pt", model(WIDE))).notes)


def test_what_holds_no_weights(tmp_path: Path) -> None:
    with pytest.raises(OpenWITError, match="does not exist"):
        read(tmp_path / "nowhere")
    with pytest.raises(OpenWITError, match="holds neither checkpoints nor weights"):
        read(tmp_path)
    folder = hugging_face(tmp_path / "hf", model())
    (folder / "config.json").unlink()
    with pytest.raises(OpenWITError, match=r"config.json does not exist"):
        read(folder)


@pytest.mark.parametrize(
    ("layout", "place", "value"),
    [
        (hugging_face, ("vision_config", "hidden_size"), "32"),
        (hugging_face, ("text_config", "intermediate_size"), "many"),
        (hugging_face, ("text_config", "intermediate_size"), [1]),
        (hugging_face, ("vision_config", "hidden_size"), 0),
        (hugging_face, ("vision_config", "hidden_act"), ["gelu"]),
        (hugging_face, ("vision_config",), "a text"),
        (open_clip, ("model_cfg", "vision_cfg", "head_width"), 0),
        (open_clip, ("model_cfg", "vision_cfg", "width"), "wide"),
        (open_clip, ("model_cfg",), "ViT"),
        (open_clip, ("model_cfg", "text_cfg", "act_kwargs"), 3),
        (open_clip, ("preprocess_cfg", "mean"), "grey"),
    ],
)
def test_values_of_other_types_in_configurations_are_one_sentence(
    tmp_path: Path, layout: Any, place: tuple[str, ...], value: object
) -> None:
    folder = layout(tmp_path / "there", model())
    path = folder / ("config.json" if layout is hugging_face else "open_clip_config.json")
    config = json.loads(path.read_text())
    section = config
    for name in place[:-1]:
        section = section[name]
    section[place[-1]] = value
    path.write_text(json.dumps(config))
    with pytest.raises(OpenWITError, match=path.name):
        read(folder)


@pytest.mark.parametrize("listed", [None, ["a.safetensors"], {}, {"k": 3}, {"k": None}, {"k": "../a.safetensors"}])
def test_an_index_that_names_no_files_is_one_sentence(tmp_path: Path, listed: object) -> None:
    folder = hugging_face(tmp_path / "there", model(), sharded=True)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": listed}))
    with pytest.raises(OpenWITError, match="names no files of weights"):
        read(folder)


def test_a_size_that_patches_do_not_divide_is_one_sentence(tmp_path: Path) -> None:
    source = read(hugging_face(tmp_path / "there", model()))
    with pytest.raises(OpenWITError, match="patch_size 8 must divide image_size 60"):
        architecture(source, InitSettings(weights=tmp_path / "there", resize=True, image_size=60))
