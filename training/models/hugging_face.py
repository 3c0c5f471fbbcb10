"""Translate between our names of a CLIP's weights and those of Hugging Face's transformers, in both directions."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from openwit.schemas.common.errors import DataError
from openwit.schemas.common.settings import parse_settings
from openwit.training.config.zoo import ClipSpec

# Names within a block, here and in transformers; attention's input projection is split separately.
_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
# Names outside of blocks.
_OUTSIDE = {
    "logit_scale": "logit_scale",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",  # sic
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "text.token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "text.positional_embedding": "text_model.embeddings.position_embedding.weight",
    "text.ln_final.weight": "text_model.final_layer_norm.weight",
    "text.ln_final.bias": "text_model.final_layer_norm.bias",
}
# Matrices multiplied from the right here; linear layers in transformers.
_PROJECTIONS = {"visual.proj": "visual_projection.weight", "text.text_projection": "text_projection.weight"}
_TOWERS = {"visual": "vision_model", "text": "text_model"}
# Counters that older files hold: 0, 1, 2 …
_COUNTERS = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")
# Defaults of transformers' CLIPConfig, which its config.json leaves out.
_TEXT = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8}
_VISION = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_BOTH = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
_ACTIVATIONS = {"quick_gelu": True, "gelu": False}


def to_hugging_face(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the state dict of a Vision Transformer `Clip` to the names and shapes of transformers' CLIPModel."""
    renamed: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if key == "logit_bias":
            continue
        if key in _OUTSIDE:
            renamed[_OUTSIDE[key]] = tensor
        elif key in _PROJECTIONS:
            renamed[_PROJECTIONS[key]] = tensor.T
        else:
            renamed |= _of_block(key, tensor)
    return {key: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for key, tensor in renamed.items()}


def from_hugging_face(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert a state dict of transformers' CLIPModel to our names and shapes; unknown keys keep their names."""
    outside = {there: here for here, there in _OUTSIDE.items()}
    projections = {there: here for here, there in _PROJECTIONS.items()}
    renamed: dict[str, Tensor] = {}
    split: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        if key in _COUNTERS:
            continue
        if key in projections:
            renamed[projections[key]] = tensor.T.contiguous()
            continue
        place, letter = _block_name(key)
        if letter is not None:
            split.setdefault(place, {})[letter] = tensor
        else:
            renamed[outside.get(key, place)] = tensor
    for place, parts in split.items():
        if set(parts) != set("qkv"):
            raise DataError(f"the weights hold {', '.join(sorted(parts))} of attention's q, k and v for {place!r}")
        renamed[place] = torch.cat([parts[letter] for letter in "qkv"])
    return renamed


def spec_of_config(config: Mapping[str, Any], where: str) -> ClipSpec:
    """Return the architecture of transformers' config.json.

    Args:
        config: its content.
        where: the file, for messages.

    Raises:
        DataError: it is not a CLIP, or one that is not built here.
    """
    kind = config.get("model_type")
    if kind in ("siglip", "siglip2"):
        raise DataError(f"{where} is of a SigLIP, whose weights are not read from folders of transformers yet")
    if kind != "clip":
        raise DataError(f"{where} is of a model of type {kind!r}, not clip")
    text = {**_TEXT, **_BOTH, **_section(config, "text_config")}
    vision = {**_VISION, **_BOTH, **_section(config, "vision_config")}
    for name, tower in (("text_config", text), ("vision_config", vision)):
        if tower["hidden_act"] not in _ACTIVATIONS:
            raise DataError(f"{where}: {name}.hidden_act {tower['hidden_act']!r} is neither quick_gelu nor gelu")
        if tower["intermediate_size"] != 4 * tower["hidden_size"]:
            raise DataError(f"{where}: {name}.intermediate_size is not four times hidden_size, as it is here")
        if tower["layer_norm_eps"] != _BOTH["layer_norm_eps"]:
            raise DataError(f"{where}: {name}.layer_norm_eps is {tower['layer_norm_eps']}, but it is 1e-05 here")
    if text["hidden_act"] != vision["hidden_act"]:
        raise DataError(f"{where}: the towers have different activations, which no model here has")
    raw = {
        "embed_dim": config.get("projection_dim", 512),
        "quick_gelu": _ACTIVATIONS[text["hidden_act"]],
        "vision": {
            "image_size": vision.get("image_size", 224),
            "patch_size": vision.get("patch_size", 32),
            **_sizes(vision),
        },
        "text": {
            "context_length": text.get("max_position_embeddings", 77),
            "vocabulary": text.get("vocab_size", 49_408),
            **_sizes(text),
        },
    }
    return parse_settings(raw, ClipSpec, where)


def _section(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = config.get(name)
    return dict(found) if isinstance(found, Mapping) else {}


def _sizes(tower: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "width": tower["hidden_size"],
        "layers": tower["num_hidden_layers"],
        "heads": tower["num_attention_heads"],
    }


def _of_block(key: str, tensor: Tensor) -> dict[str, Tensor]:
    tower, _, _, number, rest = key.split(".", 4)
    place = f"{_TOWERS[tower]}.encoder.layers.{number}"
    if rest.startswith("attn.in_proj_"):
        kind = rest.removeprefix("attn.in_proj_")
        parts = zip("qkv", tensor.chunk(3), strict=True)
        return {f"{place}.self_attn.{letter}_proj.{kind}": part for letter, part in parts}
    layer, _, kind = rest.rpartition(".")
    return {f"{place}.{_BLOCK[layer]}.{kind}": tensor}


def _block_name(key: str) -> tuple[str, str | None]:
    """Return our name of a tensor in a block, and which of attention's q, k and v it is; other keys as they are."""
    parts = key.split(".", 4)
    towers = {there: here for here, there in _TOWERS.items()}
    if len(parts) < 5 or parts[0] not in towers or parts[1:3] != ["encoder", "layers"]:
        return key, None
    place = f"{towers[parts[0]]}.transformer.resblocks.{parts[3]}"
    layer, _, kind = parts[4].rpartition(".")
    if layer.startswith("self_attn.") and layer.endswith("_proj") and layer[10] in "qkv":
        return f"{place}.attn.in_proj_{kind}", layer[10]
    names = {there: here for here, there in _BLOCK.items()}
    return (f"{place}.{names[layer]}.{kind}", None) if layer in names else (key, None)
