"""Translate between our names of a CLIP's weights and those of Hugging Face's transformers, in both directions."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from openwit.schemas.common.errors import DataError
from openwit.schemas.common.settings import parse_settings
from openwit.training.config.zoo import ClipSpec
from openwit.training.models.siglip_config import spec_of_siglip
from openwit.training.models.tower_config import section, side, sizes, style
from openwit.training.tokenizer.bpe import END_OF_TEXT

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
_BOTH = {"num_hidden_layers": 12, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
_TEXT = {**_BOTH, "hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8}
_VISION = {**_BOTH, "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}


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
    """Return the architecture of transformers' config.json, of a CLIP or a SigLIP.

    Args:
        config: its content.
        where: the file, for messages.

    Raises:
        DataError: it is neither, or has what is not built here; names the field.
    """
    kind = config.get("model_type")
    if kind == "siglip":
        return spec_of_siglip(config, where)
    if kind == "siglip2":
        raise DataError(f"{where}: model_type siglip2 is of images of any size (NaFlex), which is not built here")
    if kind != "clip":
        raise DataError(f"{where} is of a model of type {kind!r}, neither clip nor siglip")
    text, vision = section(config, "text_config", _TEXT), section(config, "vision_config", _VISION)
    vocabulary = text.get("vocab_size", 49_408)
    end = text.get("eos_token_id", vocabulary - 1)
    if end not in (2, vocabulary - 1, END_OF_TEXT):  # 2: of older files, which pool at the largest id
        raise DataError(
            f"{where}: text_config.eos_token_id is {end}, but a text's end is found at the largest id here, "
            f"{vocabulary - 1}"
        )
    raw = {
        "embed_dim": config.get("projection_dim", 512),
        **style({"text_config": text, "vision_config": vision}, where),
        "vision": {
            "image_size": side(vision, "image_size", 224, where),
            "patch_size": side(vision, "patch_size", 32, where),
            **sizes(vision),
        },
        "text": {
            "context_length": text.get("max_position_embeddings", 77),
            "vocabulary": vocabulary,
            **sizes(text),
        },
    }
    return parse_settings(raw, ClipSpec, where)


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
