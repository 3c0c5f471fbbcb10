"""Larger models, SigLIP's and the parts they need: sizes as published, features as open_clip's."""

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from support.open_clip import imported
from torch import Tensor, nn
from torch.nn import functional as F

from openwit.schemas.common.errors import DataError, OpenWITError
from openwit.schemas.common.settings import parse_settings
from openwit.training.config.zoo import ZOO, ClipSpec, spec_of
from openwit.training.models.clip import Clip
from openwit.training.models.flops import image_flops, text_flops
from openwit.training.models.siglip import from_siglip
from openwit.training.models.weights import into_model, model_from_weights, save_safetensors, settings_of

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
TEXT = {"context_length": 12, "vocabulary": 100, "width": 32, "layers": 2, "heads": 2}
VISION = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "heads": 2}
SIGLIP = {
    "embed_dim": 32,
    "gelu": "tanh",
    "norm_eps": 1e-6,
    "vision": {
        **VISION,
        "pool": "attention",
        "pre_norm": False,
        "patch_bias": True,
        "projection": False,
        "mlp_ratio": 3.7362,
    },
    "text": {**TEXT, "causal": False, "pool": "last", "pad": 1, "projection_bias": True},
}

# Millions of parameters in open_clip's docs/model_profile.csv, and the model of the same name there. SigLIP's have a
# bias of the similarities besides.
PUBLISHED = {
    "ViT-H/14": (986.11, 986_109_441),
    "ViT-g/14": (1366.68, 1_366_678_273),
    "ViT-bigG/14": (2539.57, 2_539_567_105),
    "ViT-B/16-SigLIP": (203.16, 203_155_970),
    "ViT-B/16-SigLIP-256": (203.2, 203_202_050),
    "ViT-B/16-SigLIP-384": (203.45, 203_447_810),
    "ViT-B/16-SigLIP-512": (203.79, 203_791_874),
    "ViT-L/16-SigLIP-256": (652.15, 652_150_786),
    "ViT-L/16-SigLIP-384": (652.48, 652_478_466),
    "ViT-SO400M/14-SigLIP": (877.36, 877_360_306),
    "ViT-SO400M/14-SigLIP-378": (877.96, 877_960_498),
}


def spec(raw: dict[str, Any]) -> ClipSpec:
    return parse_settings(raw, ClipSpec, "spec")


def scrambled(model: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    return model.eval()


@pytest.fixture(scope="module")
def open_clip() -> Iterator[ModuleType]:
    with imported() as module:
        yield module


def test_the_sizes_are_the_published_ones() -> None:
    for name, (millions, parameters) in PUBLISHED.items():
        with torch.device("meta"):
            model = Clip(spec_of(name.replace("/", "-")), init_logit_bias=-10.0 if "SigLIP" in name else None)
        assert sum(parameter.numel() for parameter in model.parameters()) == parameters, name
        assert round(parameters / 1e6, 2) == millions, name
        assert image_flops(ZOO[name]) > text_flops(ZOO[name]) / 4 > 0
        if "H" in name or "g/" in name or "bigG" in name or "SO400M" in name:
            assert settings_of(model.state_dict()) == ZOO[name], name


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["ViT-H/14", "ViT-g/14", "ViT-bigG/14"])
def test_the_tensors_are_those_of_open_clips_model(open_clip: ModuleType, name: str) -> None:
    with torch.device("meta"):
        theirs = open_clip.model.CLIP(**open_clip.get_model_config(name.replace("/", "-")))
        ours = Clip(ZOO[name])
    shapes = {key: tensor.shape for key, tensor in theirs.state_dict().items()}
    assert shapes == {key.removeprefix("text."): tensor.shape for key, tensor in ours.state_dict().items()}


@pytest.mark.filterwarnings("ignore")
def test_layer_scale_and_mlp_ratio_give_open_clips_features(open_clip: ModuleType) -> None:
    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
    theirs = open_clip.model.CLIP(
        embed_dim=24,
        vision_cfg={**vision, "mlp_ratio": 4.3637, "ls_init_value": 0.1},
        text_cfg={"context_length": 12, "vocab_size": 100, "width": 32, "heads": 2, "layers": 2, "ls_init_value": 0.1},
    )
    scrambled(theirs)
    found = settings_of(theirs.state_dict(), head_width=16)
    assert found.vision.mlp_ratio == pytest.approx(4.3637, abs=0.05)
    ours = Clip(found).eval()
    into_model(ours, theirs.state_dict())
    images, tokens = torch.randn(3, 3, 32, 32), torch.randint(1, 100, (3, 12))
    torch.testing.assert_close(ours.visual(images), theirs.encode_image(images), **TOLERANCE)
    torch.testing.assert_close(ours.text(tokens), theirs.encode_text(tokens), **TOLERANCE)


@pytest.mark.filterwarnings("ignore")
def test_siglip_gives_the_features_of_open_clip_with_timm(open_clip: ModuleType) -> None:
    pytest.importorskip("timm")
    config = open_clip.get_model_config("ViT-B-16-SigLIP")
    config.pop("custom_text")
    config["text_cfg"] |= {"vocab_size": 300, "layers": 2}
    theirs = open_clip.model.CustomTextCLIP(**config)
    theirs.visual.trunk.blocks = theirs.visual.trunk.blocks[:2]
    scrambled(theirs)
    state = theirs.state_dict()
    # open_clip computes the exact GELU for this model.
    ours = Clip(settings_of(state).model_copy(update={"gelu": "exact"}), init_logit_bias=0.0).eval()
    into_model(ours, state)
    images, tokens = torch.randn(2, 3, 224, 224), torch.randint(2, 300, (2, 64))
    tokens[0, 9:], tokens[1, 30:] = 1, 1
    with torch.inference_mode():
        torch.testing.assert_close(ours.encode_image(images), theirs.encode_image(images, normalize=True), **TOLERANCE)
        torch.testing.assert_close(ours.encode_text(tokens), theirs.encode_text(tokens, normalize=True), **TOLERANCE)


def plain_siglip(state: dict[str, Tensor], images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """SigLIP as big_vision states it, sample by sample, with torch's own attention; names of transformers."""

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def attention(query: Tensor, x: Tensor, name: str) -> Tensor:
        parts = [linear(query, f"{name}.q_proj"), linear(x, f"{name}.k_proj"), linear(x, f"{name}.v_proj")]
        q, k, v = (part.unflatten(-1, (2, -1)).transpose(0, 1) for part in parts)
        shares = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(dim=-1)
        return linear((shares @ v).transpose(0, 1).flatten(1), f"{name}.out_proj")

    def mlp(x: Tensor, name: str) -> Tensor:
        return linear(F.gelu(linear(x, f"{name}.fc1"), approximate="tanh"), f"{name}.fc2")

    def blocks(x: Tensor, tower: str) -> Tensor:
        for number in range(2):
            place = f"{tower}.encoder.layers.{number}"
            first = norm(x, f"{place}.layer_norm1")
            x = x + attention(first, first, f"{place}.self_attn")
            x = x + mlp(norm(x, f"{place}.layer_norm2"), f"{place}.mlp")
        return x

    pooled = []
    for image in images:
        kernel, bias = (state[f"vision_model.embeddings.patch_embedding.{part}"] for part in ("weight", "bias"))
        x = F.conv2d(image[None], kernel, bias, stride=8).flatten(2)[0].T
        x = blocks(x + state["vision_model.embeddings.position_embedding.weight"], "vision_model")
        x = norm(x, "vision_model.post_layernorm")
        query = attention(state["vision_model.head.probe"][0], x, "vision_model.head.attention")
        pooled.append((query + mlp(norm(query, "vision_model.head.layernorm"), "vision_model.head.mlp"))[0])
    texts = []
    for row in tokens:
        x = state["text_model.embeddings.token_embedding.weight"][row]
        x = blocks(x + state["text_model.embeddings.position_embedding.weight"], "text_model")
        texts.append(linear(norm(x, "text_model.final_layer_norm")[-1], "text_model.head"))
    return F.normalize(torch.stack(pooled), dim=-1), F.normalize(torch.stack(texts), dim=-1)


def as_transformers(state: dict[str, Tensor], *, split: bool) -> dict[str, Tensor]:
    """Our state dict under transformers' names; `split`: with the pooling's attention in three parts as well."""
    blocks = {
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "attn.": "self_attn.",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
    }
    outside = {
        "visual.conv1": "vision_model.embeddings.patch_embedding",
        "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "visual.transformer.resblocks": "vision_model.encoder.layers",
        "visual.ln_post": "vision_model.post_layernorm",
        "visual.attn_pool.ln": "vision_model.head.layernorm",
        "visual.attn_pool.mlp": "vision_model.head.mlp",
        "visual.attn_pool.probe": "vision_model.head.probe",
        "visual.attn_pool": "vision_model.head.attention",
        "text.token_embedding": "text_model.embeddings.token_embedding",
        "text.positional_embedding": "text_model.embeddings.position_embedding.weight",
        "text.transformer.resblocks": "text_model.encoder.layers",
        "text.ln_final": "text_model.final_layer_norm",
        "text.text_projection": "text_model.head",
    }
    named: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = key
        for ours, theirs in outside.items():
            if name.startswith(ours):
                name = theirs + name.removeprefix(ours)
                break
        for ours, theirs in blocks.items():
            name = name.replace(ours, theirs)
        name = name.replace("head.mlp.c_", "head.mlp.").replace(".mlp.fc", ".mlp.fc")
        if ".in_proj_" in name and (split or "encoder" in name):
            place, _, kind = name.partition(".in_proj_")
            named |= {f"{place}.{x}_proj.{kind}": y for x, y in zip("qkv", tensor.chunk(3), strict=True)}
        elif name.endswith("head.probe"):
            named[name] = tensor[None, None]
        else:
            named[name] = tensor.reshape(1) if tensor.ndim == 0 else tensor
    return named


def test_siglip_in_transformers_layout_is_its_plain_restatement() -> None:
    ours = scrambled(Clip(spec(SIGLIP), init_logit_bias=-10.0))
    state = ours.state_dict()
    back = from_siglip(as_transformers(state, split=False))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], tensor) for key, tensor in state.items())
    images, tokens = torch.randn(2, 3, 32, 32), torch.randint(2, 100, (3, 12))
    tokens[0, 4:], tokens[1, 7:] = 1, 1
    wanted = plain_siglip(as_transformers(state, split=True) | {}, images, tokens)
    # As the loader gives them: cut to the longest of a batch, zeros after the end.
    short = tokens[:2].where(tokens[:2] != 1, 0)[:, :8]
    with torch.inference_mode():
        torch.testing.assert_close(ours.encode_image(images), wanted[0], **TOLERANCE)  # type: ignore[operator]
        torch.testing.assert_close(ours.encode_text(tokens), wanted[1], **TOLERANCE)  # type: ignore[operator]
        torch.testing.assert_close(ours.encode_text(short), wanted[1][:2], **TOLERANCE)  # type: ignore[operator]


def test_a_lost_part_of_attention_is_named() -> None:
    state = as_transformers(Clip(spec(SIGLIP), init_logit_bias=-10.0).state_dict(), split=False)
    del state["vision_model.encoder.layers.1.self_attn.k_proj.weight"]
    with pytest.raises(DataError, match=r"query, key and value for 'visual.transformer.resblocks.1.attn.in_proj_weig"):
        settings_of(state)


@pytest.mark.parametrize("pool", ["class", "mean", "attention"])
def test_every_pooling_trains_and_its_file_is_read_again(tmp_path: Any, pool: str) -> None:
    torch.manual_seed(0)
    model = Clip(
        spec({"embed_dim": 24, "vision": {**VISION, "pool": pool, "layer_scale": 0.1, "mlp_ratio": 3}, "text": TEXT}),
        patch_dropout=0.5,
    )
    images = torch.randn(2, 3, 32, 32)
    model.encode_image(images).sum().backward()
    assert all(parameter.grad is not None for parameter in model.visual.parameters())
    save_safetensors(model, tmp_path / "model.safetensors")
    again, report = model_from_weights(tmp_path / "model.safetensors")
    assert report.notes == ()
    torch.testing.assert_close(again.encode_image(images), model.eval().encode_image(images))
    inferred = settings_of(model.state_dict(), head_width=16)
    assert inferred.vision == model.spec.vision.model_copy(update={"layer_scale": 1e-5})


def test_the_mean_is_over_the_patches() -> None:
    torch.manual_seed(0)
    model = Clip(spec({"embed_dim": 24, "vision": {**VISION, "pool": "mean", "layers": 1}, "text": TEXT})).eval()
    images = torch.randn(2, 3, 32, 32)
    tower: Any = model.visual
    x = tower.conv1(images).flatten(2).transpose(1, 2) + tower.positional_embedding
    wanted = tower.ln_post(tower.transformer(tower.ln_pre(x))).mean(dim=1) @ tower.proj
    torch.testing.assert_close(model.visual(images), wanted)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vision": {**VISION, "projection": False}}, "vision.width 32 must be embed_dim 24"),
        ({"text": {**TEXT, "pool": "last"}}, "pool: last sees the filling after a short text: set causal: false"),
        ({"text": {**TEXT, "pad": 100}}, "pad 100 must be below vocabulary 100"),
        ({"vision": {**VISION, "stem": "convolutions", "patch_bias": True}}, "patch_bias is of stem: patch"),
    ],
)
def test_sizes_that_do_not_fit_are_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(OpenWITError) as caught:
        spec({"embed_dim": 24, "vision": VISION, "text": TEXT, **change})
    assert words in str(caught.value)
