"""Hugging Face's layout: against a plain restatement of its model, and against transformers where it is installed."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from openwit.schemas.common.errors import OpenWITError
from openwit.training.export.hugging_face import to_hugging_face, write_hugging_face
from openwit.training.export.open_clip import model_config

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


class Plain:
    """transformers' CLIPModel in plain steps, from its configuration and its names of tensors."""

    def __init__(self, folder: Path) -> None:
        self.config = json.loads((folder / "config.json").read_text())
        self.weights = load_file(folder / "model.safetensors")
        self.read: set[str] = set()

    def w(self, name: str) -> Tensor:
        self.read.add(name)
        return self.weights[name]

    def norm(self, x: Tensor, name: str) -> Tensor:
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt() * self.w(f"{name}.weight") + self.w(f"{name}.bias")

    def linear(self, x: Tensor, name: str) -> Tensor:
        return x @ self.w(f"{name}.weight").T + self.w(f"{name}.bias")

    def layers(self, x: Tensor, tower: str, config: dict[str, Any], mask: Tensor | None) -> Tensor:
        heads = config["num_attention_heads"]
        act = {"quick_gelu": lambda x: x * torch.sigmoid(1.702 * x), "gelu": F.gelu}[config["hidden_act"]]
        for number in range(config["num_hidden_layers"]):
            layer = f"{tower}.encoder.layers.{number}"
            inner = self.norm(x, f"{layer}.layer_norm1")
            q, k, v = (
                self.linear(inner, f"{layer}.self_attn.{letter}_proj").unflatten(-1, (heads, -1)).transpose(1, 2)
                for letter in "qkv"
            )
            scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
            scores = scores if mask is None else scores + mask
            mixed = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
            x = x + self.linear(mixed, f"{layer}.self_attn.out_proj")
            inner = act(self.linear(self.norm(x, f"{layer}.layer_norm2"), f"{layer}.mlp.fc1"))
            x = x + self.linear(inner, f"{layer}.mlp.fc2")
        return x

    def image(self, pixels: Tensor) -> Tensor:
        config, place = self.config["vision_config"], "vision_model.embeddings"
        patches = F.conv2d(pixels, self.w(f"{place}.patch_embedding.weight"), stride=config["patch_size"])
        first = self.w(f"{place}.class_embedding").expand(len(pixels), 1, -1)
        x = torch.cat([first, patches.flatten(2).transpose(1, 2)], 1) + self.w(f"{place}.position_embedding.weight")
        x = self.layers(self.norm(x, "vision_model.pre_layrnorm"), "vision_model", config, None)
        pooled = self.norm(x[:, 0], "vision_model.post_layernorm")
        return pooled @ self.w("visual_projection.weight").T

    def text(self, ids: Tensor) -> Tensor:
        config, place = self.config["text_config"], "text_model.embeddings"
        length = ids.shape[1]
        x = self.w(f"{place}.token_embedding.weight")[ids] + self.w(f"{place}.position_embedding.weight")[:length]
        mask = torch.full((length, length), float("-inf")).triu(1)
        x = self.norm(self.layers(x, "text_model", config, mask), "text_model.final_layer_norm")
        end = config["eos_token_id"]
        assert end != 2  # which would mean: the arg-max
        last = (ids == end).int().argmax(-1)
        return x[torch.arange(len(ids)), last] @ self.w("text_projection.weight").T


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_a_plain_restatement_of_their_model_answers_as_ours(made, folder: Path, quick_gelu: bool) -> None:
    source = made.source("vit", quick_gelu=quick_gelu)
    assert write_hugging_face(source, folder) == ()
    plain = Plain(folder)
    images, ids = made.pictures(3, 32), made.tokens(source)
    with torch.inference_mode():
        torch.testing.assert_close(plain.image(images), source.model.visual(images), **TOLERANCE)
        torch.testing.assert_close(plain.text(ids), source.model.text(ids), **TOLERANCE)
        padded_with_the_end = ids.where(ids != 0, source.tokenizer.end_of_text)
        torch.testing.assert_close(plain.text(padded_with_the_end), source.model.text(ids), **TOLERANCE)
    assert plain.w("logit_scale") == source.model.logit_scale
    assert plain.read == set(plain.weights)


@pytest.mark.parametrize("name", ["resnet", "convolutions"])
def test_what_transformers_does_not_have_is_refused(made, folder: Path, name: str) -> None:
    with pytest.raises(OpenWITError, match="transformers' CLIP has no"):
        write_hugging_face(made.source(name), folder)


def test_a_logit_bias_is_left_out_and_said(made, folder: Path) -> None:
    source = made.source("vit", bias=-10.0)
    (note,) = write_hugging_face(source, folder)
    assert "-10.0000" in note
    assert "logit_bias" not in to_hugging_face(source.model.state_dict())
    assert model_config(source.model)["init_logit_bias"] == -10.0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("own_tokenizer", [True, False])
def test_transformers_loads_it_and_answers_the_same(made, folder: Path, own_tokenizer: bool) -> None:
    transformers = pytest.importorskip("transformers", exc_type=ImportError)
    source = made.source("vit", own_tokenizer=own_tokenizer)
    write_hugging_face(source, folder)
    theirs, loading = transformers.CLIPModel.from_pretrained(folder, output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = ["the cat", "", "The cat ate the hat on the mat, the hat!", "a  CAT's hat"]
    batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    ours = torch.from_numpy(source.tokenizer(texts, source.model.spec.text.context_length))
    assert tokenizer.model_max_length == source.model.spec.text.context_length
    assert torch.equal(batch.input_ids, ours.where(ours != 0, source.tokenizer.end_of_text))
    images = made.pictures(3, 32)
    with torch.inference_mode():
        out = theirs.eval()(pixel_values=images, **batch)
        torch.testing.assert_close(out.image_embeds, source.model.encode_image(images), **TOLERANCE)
        torch.testing.assert_close(out.text_embeds, source.model.encode_text(ours), **TOLERANCE)
