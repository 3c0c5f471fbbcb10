"""Translate between our architecture of a SigLIP and transformers' config.json, in both directions."""

from collections.abc import Mapping
from typing import Any

from openwit.schemas.common.errors import DataError, RecipeError
from openwit.schemas.common.settings import parse_settings
from openwit.training.config.images import SIGLIP_IMAGES
from openwit.training.config.zoo import ClipSpec, VisionSpec
from openwit.training.models.tower_config import section, side, sizes, style, tower_config
from openwit.training.models.weights import LARGE_VOCABULARY

# Defaults of transformers' SiglipConfig, which its config.json leaves out.
_BOTH = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}
_TEXT = {"vocab_size": 32_000, "max_position_embeddings": 64}


def spec_of_siglip(config: Mapping[str, Any], where: str) -> ClipSpec:
    """Return the architecture of a SiglipModel; of SigLIP 2, of its models for one image size.

    Args:
        config: content of config.json.
        where: the file, for messages.

    Raises:
        DataError: it has what is not built here; names the field.
    """
    text, vision = section(config, "text_config", {**_BOTH, **_TEXT}), section(config, "vision_config", _BOTH)
    if vision.get("vision_use_head") is False:
        raise DataError(f"{where}: vision_config.vision_use_head is false, but a SigLIP here pools by attention")
    projection = text.get("projection_size", text["hidden_size"])
    if projection != vision["hidden_size"]:
        raise DataError(
            f"{where}: text_config.projection_size {projection} is not vision_config.hidden_size "
            f"{vision['hidden_size']}, in which images are embedded"
        )
    large = text["vocab_size"] >= LARGE_VOCABULARY
    raw = {
        "embed_dim": projection,
        **style({"text_config": text, "vision_config": vision}, where),
        "images": SIGLIP_IMAGES,
        "vision": {
            "pool": "attention",
            "pre_norm": False,
            "patch_bias": True,
            "projection": False,
            "image_size": side(vision, "image_size", 224, where),
            "patch_size": side(vision, "patch_size", 16, where),
            **sizes(vision),
        },
        "text": {
            "causal": False,
            "pool": "last",
            "projection_bias": True,
            "context_length": text["max_position_embeddings"],
            "vocabulary": text["vocab_size"],
            # SigLIP 2 fills up with 0, whatever its configuration says by default.
            "pad": 0 if large else text.get("pad_token_id", 1),
            **sizes(text),
        },
    }
    return parse_settings(raw, ClipSpec, where)


def is_siglip_spec(spec: ClipSpec) -> bool:
    """Return whether transformers' SiglipModel has this architecture, sizes, activation and epsilon apart."""
    vision, text = spec.vision, spec.text
    if not isinstance(vision, VisionSpec) or vision.stem != "patch":
        return False
    image = (vision.pool, vision.pre_norm, vision.patch_bias, vision.projection)
    words = (text.causal, text.pool, text.projection_bias)
    scaled = vision.layer_scale is not None or text.layer_scale is not None
    return image == ("attention", False, True, False) and words == (False, "last", True) and not scaled


def siglip_config(spec: ClipSpec) -> dict[str, Any]:
    """Return transformers' config.json of a SigLIP.

    Raises:
        RecipeError: it is none.
    """
    vision = spec.vision
    if not is_siglip_spec(spec) or not isinstance(vision, VisionSpec):
        raise RecipeError("transformers' SigLIP has other towers than these: export to onnx instead")
    return {
        "architectures": ["SiglipModel"],
        "model_type": "siglip",
        "initializer_factor": 1.0,
        "torch_dtype": "float32",
        "text_config": {
            **tower_config(spec, spec.text),
            "model_type": "siglip_text_model",
            "vocab_size": spec.text.vocabulary,
            "max_position_embeddings": spec.text.context_length,
            "projection_size": spec.embed_dim,
            "pad_token_id": spec.text.pad,
            "bos_token_id": None,
            "eos_token_id": 1,
        },
        "vision_config": {
            **tower_config(spec, vision),
            "model_type": "siglip_vision_model",
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "num_channels": 3,
        },
    }
