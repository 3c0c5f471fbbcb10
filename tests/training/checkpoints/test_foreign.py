"""Folders of Hugging Face's SigLIP and CLIP, loaded, trained from, exported again."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support import siglip

from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.common.settings import parse_settings
from openwit.training.checkpoints.initial import read_init
from openwit.training.checkpoints.load import load_model
from openwit.training.config import TrainConfig
from openwit.training.config.choices import ExportLayout
from openwit.training.config.zoo import ZOO, ClipSpec, TextSpec, VisionSpec
from openwit.training.export.export import export_model
from openwit.training.export.hugging_face import model_config
from openwit.training.models.clip import Clip
from openwit.training.models.hugging_face import spec_of_config, to_hugging_face
from openwit.training.models.siglip import from_siglip, to_transformers
from openwit.training.models.siglip_config import siglip_config
from openwit.training.models.weights import ratio_of
from openwit.training.run.loop import fit

SPEC = parse_settings(siglip.SPEC, ClipSpec, "spec")
TEXTS = ["A red box, at the top!", "a green box"]
CLIP = ClipSpec(
    embed_dim=24,
    gelu="tanh",
    norm_eps=1e-4,
    vision=VisionSpec(image_size=32, patch_size=16, width=32, layers=1, heads=2, mlp_ratio=ratio_of(100, 32)),
    text=TextSpec(context_length=12, vocabulary=100, width=32, layers=1, heads=2, mlp_ratio=ratio_of(77, 32)),
)


def folder_of(folder: Path, model: Clip, *, tokenizer: bool = True) -> Path:
    from safetensors.torch import save_file

    folder.mkdir()
    if tokenizer:
        siglip.write_tokenizer(folder)
    (folder / "config.json").write_text(json.dumps(siglip_config(model.spec)))
    save_file(to_transformers(model.state_dict()), folder / "model.safetensors")
    return folder


@pytest.fixture
def model() -> Clip:
    torch.manual_seed(0)
    made = Clip(SPEC, init_logit_scale=1.5, init_logit_bias=-3.0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made.eval()


def test_a_siglip_is_loaded_exported_and_loaded_again(model: Clip, tmp_path: Path) -> None:
    loaded = load_model(folder_of(tmp_path / "hf", model))
    assert loaded.model.spec == SPEC
    assert (loaded.logit_scale, loaded.logit_bias) == (model.logit_scale.exp().item(), model.logit_bias.item())
    state = loaded.model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded.encode_image(images), model.encode_image(images).detach())
    tokens = torch.from_numpy(loaded.tokenizer(TEXTS, 16))
    assert torch.equal(loaded.encode_text(TEXTS), model.encode_text(tokens).detach())
    export_model(loaded, tmp_path / "again", layout=ExportLayout.HUGGING_FACE)
    again = load_model(tmp_path / "again")
    assert torch.equal(again.encode_text(TEXTS), loaded.encode_text(TEXTS))
    assert torch.equal(again.encode_image(images), loaded.encode_image(images))
    kind = json.loads((tmp_path / "again" / "preprocessor_config.json").read_text())["image_processor_type"]
    assert (kind, again.model.spec) == ("SiglipImageProcessor", SPEC)
    # The cleaning is in the exported file, for programs that read it without ours.
    from tokenizers import Tokenizer

    plain: Any = Tokenizer.from_file(str(tmp_path / "again" / "tokenizer.json"))
    bare = [row[row != 1].tolist() for row in tokens]
    assert [[*found.ids[:-1][:15], 1] for found in plain.encode_batch(TEXTS)] == [[*row, 1] for row in bare]


def test_names_of_transformers_and_back_are_the_identity(model: Clip) -> None:
    state = model.state_dict()
    back = from_siglip(to_transformers(state))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


def test_without_its_tokenizer_it_is_refused(model: Clip, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "hf", model, tokenizer=False)
    with pytest.raises(OpenWITError, match=r"neither tokenizer\.json nor spiece\.model"):
        load_model(folder)


@pytest.mark.parametrize("name", ["ViT-B/16-SigLIP", "ViT-L/16-SigLIP-384", "ViT-SO400M/14-SigLIP-378"])
def test_published_configurations_are_those_of_the_zoo(name: str) -> None:
    config = siglip_config(ZOO[name])
    assert spec_of_config(config, "config.json") == ZOO[name]
    if name == "ViT-B/16-SigLIP":  # what config.json states beyond transformers' defaults
        assert spec_of_config({"model_type": "siglip", "text_config": {}, "vision_config": {}}, "") == ZOO[name]
        assert config["vision_config"]["intermediate_size"] == 3072
    if "SO400M" in name:
        assert config["text_config"]["intermediate_size"] == 4304


def test_a_clip_with_other_ratios_activation_and_epsilon(tmp_path: Path) -> None:
    config = model_config(CLIP)
    assert (config["vision_config"]["intermediate_size"], config["text_config"]["intermediate_size"]) == (100, 77)
    assert spec_of_config(config, "config.json") == CLIP
    made = Clip(CLIP)
    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.save(to_hugging_face(made.state_dict()), tmp_path / "pytorch_model.bin")
    found = read_init(tmp_path, report=print)
    assert found.spec == CLIP
    assert all(torch.equal(found.state[name], tensor) for name, tensor in made.state_dict().items())


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("siglip", {"vision_config": {"vision_use_head": False}}, "vision_config.vision_use_head is false"),
        ("siglip", {"text_config": {"projection_size": 12}}, "text_config.projection_size 12 is not vision_config"),
        ("siglip", {"vision_config": {"image_size": [32, 64]}}, "vision_config.image_size is"),
        ("siglip", {"vision_config": {"num_channels": 4}}, "vision_config.num_channels is 4"),
        ("siglip", {"text_config": {"layer_norm_eps": 1e-5}}, "text_config.layer_norm_eps 1e-05 and vision_config"),
        ("siglip2", {}, "model_type siglip2"),
        ("clip", {"text_config": {"eos_token_id": 5}}, "text_config.eos_token_id is 5"),
        ("clip", {"text_config": {"hidden_act": "gelu"}}, "different activations"),
        ("clip", {"vision_config": {"hidden_act": "relu"}}, "vision_config.hidden_act is 'relu'"),
    ],
)
def test_what_cannot_be_built_is_one_sentence_with_the_field(kind: str, changes: Any, message: str) -> None:
    with pytest.raises(OpenWITError, match=message.replace(".", r"\.")) as caught:
        spec_of_config({"model_type": kind, **changes}, "config.json")
    assert "\n" not in str(caught.value)


def test_dropout_that_is_not_applied_is_said(model: Clip, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "hf", model)
    config = siglip_config(SPEC)
    config["text_config"]["attention_dropout"] = 0.1
    (folder / "config.json").write_text(json.dumps(config))
    assert read_init(folder, report=print).notes == ("text_config.attention_dropout is 0.1, which is not applied "
                                                     "in training here",)  # fmt: skip


@pytest.mark.slow
def test_a_run_begins_from_a_siglip_resumes_and_is_evaluated(model: Clip, tmp_path: Path, configure: Any) -> None:
    folder = folder_of(tmp_path / "hf", model)
    raw = configure(
        model={"init": str(folder)},
        objective={"name": "sigmoid"},
        schedule={"duration": "2 steps", "warmup": "0 steps"},
        checkpoint={"every": "1 steps", "keep": 2},
    )
    with pytest.raises(OpenWITError, match=r"instead of CLIP's 49,408: set model.tokenizer to .*tokenizer\.json"):
        fit(parse_settings(raw, TrainConfig, "config"))
    raw["model"]["tokenizer"] = str(folder / "tokenizer.json")
    outcome = fit(parse_settings(raw, TrainConfig, "config"))
    assert outcome.recall is not None
    for path in folder.iterdir():
        if path.suffix == ".safetensors":
            path.unlink()  # a run that is resumed needs the weights no more
    (Path(raw["run"]) / "checkpoints" / "step-000000002.pt").unlink()
    again = fit(parse_settings(raw, TrainConfig, "config"))
    assert (outcome.status, again.status) == ("finished", "finished")
    trained = load_model(raw["run"])
    assert trained.model.spec == SPEC
    assert trained.tokenizer.stored == load_tokenizer(folder)
    siglip.write_tokenizer(folder, template=True, tokenizer_class="T5TokenizerFast")
    with pytest.raises(OpenWITError, match="was trained with another tokenizer"):
        fit(parse_settings(raw, TrainConfig, "config"))


def load_tokenizer(folder: Path) -> Any:
    from openwit.training.tokenizer.read import read_tokenizer

    return read_tokenizer(folder / "tokenizer.json").stored
