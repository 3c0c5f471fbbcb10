"""Name SigLIP's weights as here, of transformers' SiglipModel and of open_clip (timm's image tower), and back."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from openwit.schemas.common.errors import DataError

# Beginnings of keys by which the two layouts are told.
TIMM, TRANSFORMERS = "visual.trunk.", "vision_model.head."
# In this order: the first that matches is applied, then the block's names below.
_PLACES = (
    (r"visual\.trunk\.pos_embed$", "visual.positional_embedding"),
    (r"visual\.trunk\.patch_embed\.proj\.", "visual.conv1."),
    (r"visual\.trunk\.blocks\.", "visual.transformer.resblocks."),
    (r"visual\.trunk\.norm\.", "visual.ln_post."),
    (r"visual\.trunk\.attn_pool\.latent$", "visual.attn_pool.probe"),
    (r"visual\.trunk\.attn_pool\.norm\.", "visual.attn_pool.ln."),
    (r"visual\.trunk\.attn_pool\.proj\.", "visual.attn_pool.out_proj."),
    (r"visual\.trunk\.", "visual."),
    (r"vision_model\.embeddings\.patch_embedding\.", "visual.conv1."),
    (r"vision_model\.embeddings\.position_embedding\.weight$", "visual.positional_embedding"),
    (r"vision_model\.post_layernorm\.", "visual.ln_post."),
    (r"vision_model\.head\.attention\.", "visual.attn_pool."),
    (r"vision_model\.head\.layernorm\.", "visual.attn_pool.ln."),
    (r"vision_model\.head\.", "visual.attn_pool."),
    (r"vision_model\.encoder\.layers\.", "visual.transformer.resblocks."),
    (r"text_model\.embeddings\.token_embedding\.", "text.token_embedding."),
    (r"text_model\.embeddings\.position_embedding\.weight$", "text.positional_embedding"),
    (r"text_model\.encoder\.layers\.", "text.transformer.resblocks."),
    (r"text_model\.final_layer_norm\.", "text.ln_final."),
    (r"text_model\.head\.", "text.text_projection."),
)
_PARTS = (
    (r"\.(?:norm1|layer_norm1)\.", ".ln_1."),
    (r"\.(?:norm2|layer_norm2)\.", ".ln_2."),
    (r"\.attn\.proj\.", ".attn.out_proj."),
    (r"\.self_attn\.", ".attn."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
    (r"\.ls([12])\.gamma$", r".ls_\1.gamma"),
    (r"\.attn\.qkv\.(weight|bias)$", r".attn.in_proj_\1"),
)
# Parts of one tensor here, in their order: attention's query, key and value.
_SPLIT = re.compile(r"(.*)\.(q|k|v|kv)(?:_proj)?\.(weight|bias)$")
_ORDER = {"q": 0, "k": 1, "kv": 1, "v": 2}
_COUNTERS = ("vision_model.embeddings.position_ids", "text_model.embeddings.position_ids")


def is_siglip(state: Mapping[str, Tensor]) -> bool:
    """Return whether the keys are those of SigLIP in transformers' layout, or of open_clip's with timm's tower."""
    return any(key.startswith((TRANSFORMERS, f"{TIMM}attn_pool.")) for key in state)


def from_siglip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with our names and shapes; keys that are not known keep their names.

    Raises:
        DataError: a part of attention's query, key and value is missing.
    """
    named: dict[str, Tensor] = {}
    split: dict[str, dict[int, Tensor]] = {}
    for key, tensor in state.items():
        if key in _COUNTERS:
            continue
        name = _renamed(key)
        if found := _SPLIT.fullmatch(name):
            split.setdefault(f"{found[1]}.in_proj_{found[3]}", {})[_ORDER[found[2]]] = tensor
        else:
            named[name] = _shaped(name, tensor)
    for name, parts in split.items():
        rows = sum(len(part) for part in parts.values())
        if 0 not in parts or rows != 3 * len(parts[0]):
            raise DataError(f"the weights lack a part of attention's query, key and value for {name!r}")
        named[name] = torch.cat([parts[number] for number in sorted(parts)])
    return named


# Our names and transformers', in this order; the first that a name begins with is replaced.
_THERE = (
    ("visual.conv1.", "vision_model.embeddings.patch_embedding."),
    ("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    ("visual.transformer.resblocks.", "vision_model.encoder.layers."),
    ("visual.ln_post.", "vision_model.post_layernorm."),
    ("visual.attn_pool.ln.", "vision_model.head.layernorm."),
    ("visual.attn_pool.mlp.", "vision_model.head.mlp."),
    ("visual.attn_pool.probe", "vision_model.head.probe"),
    ("visual.attn_pool.", "vision_model.head.attention."),
    ("text.token_embedding.", "text_model.embeddings.token_embedding."),
    ("text.positional_embedding", "text_model.embeddings.position_embedding.weight"),
    ("text.transformer.resblocks.", "text_model.encoder.layers."),
    ("text.ln_final.", "text_model.final_layer_norm."),
    ("text.text_projection.", "text_model.head."),
)
_PARTS_THERE = (
    *((".ln_1.", ".layer_norm1."), (".ln_2.", ".layer_norm2."), (".attn.", ".self_attn.")),
    *((".mlp.c_fc.", ".mlp.fc1."), (".mlp.c_proj.", ".mlp.fc2.")),
)


def to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the state dict of a SigLIP of ours to the names and shapes of transformers' SiglipModel."""
    renamed: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = next((there + key.removeprefix(here) for here, there in _THERE if key.startswith(here)), key)
        for here, there in _PARTS_THERE:
            name = name.replace(here, there)
        place, found, kind = name.partition(".self_attn.in_proj_")
        if found:
            parts = zip("qkv", tensor.chunk(3), strict=True)
            renamed |= {f"{place}.self_attn.{letter}_proj.{kind}": part for letter, part in parts}
        elif name == "vision_model.head.probe":
            renamed[name] = tensor[None, None]
        else:
            renamed[name] = tensor.reshape(1) if tensor.ndim == 0 else tensor
    return {key: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for key, tensor in renamed.items()}


def _renamed(key: str) -> str:
    for pattern, name in _PLACES:
        changed, times = re.subn(rf"^{pattern}", name, key)
        if times:
            key = changed
            break
    for pattern, name in _PARTS:
        key = re.sub(pattern, name, key)
    return key


def _shaped(name: str, tensor: Tensor) -> Tensor:
    if name == "visual.attn_pool.probe":
        return tensor.reshape(-1)
    if name == "visual.positional_embedding" and tensor.ndim == 3:
        return tensor[0]
    if name in ("logit_scale", "logit_bias") and tensor.numel() == 1:
        return tensor.reshape(())
    return tensor
