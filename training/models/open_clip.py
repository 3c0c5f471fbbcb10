"""Read the architecture from open_clip's `open_clip_config.json`."""

from collections.abc import Mapping
from typing import Any

from openwit.schemas.common.errors import DataError
from openwit.schemas.common.settings import parse_settings
from openwit.training.config.images import OPENAI_IMAGES, of_open_clip
from openwit.training.config.zoo import ClipSpec
from openwit.training.models.weights import HEAD_WIDTH

CONFIG = "open_clip_config.json"
# Keys that change nothing in the two towers, and keys whose usual value is what is built here.
_WITHOUT_EFFECT = ("init_logit_scale", "init_logit_bias", "hf_tokenizer_name", "tokenizer_kwargs", "model_type")
_USUAL = {
    "pool_type": "tok", "final_ln_after_pool": False, "no_ln_pre": False, "proj_type": "linear",
    "no_causal_mask": False, "attentional_pool": False, "patch_dropout": 0.0, "input_patchnorm": False,
    "global_average_pool": False, "nonscalar_logit_scale": False, "custom_text": True, "output_tokens": False,
    "embed_cls": False, "proj_bias": False, "pad_id": 0, "text_mask": "first",
}  # fmt: skip
_KNOWN = {
    "": ("embed_dim", "quick_gelu", "vision_cfg", "text_cfg"),
    "vision_cfg": ("image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio", "ls_init_value"),
    "text_cfg": ("context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "ls_init_value"),
}


def spec_of_open_clip(config: Mapping[str, Any], where: str) -> ClipSpec:
    """Return the architecture of open_clip's `model_cfg` (or of a whole `open_clip_config.json`).

    Args:
        config: the content.
        where: the file, for messages.

    Raises:
        DataError: it has parts that are not built here.
    """
    images = config.get("preprocess_cfg")
    config = config.get("model_cfg", config)
    vision, text = config.get("vision_cfg"), config.get("text_cfg")
    if not isinstance(vision, Mapping) or not isinstance(text, Mapping):
        raise DataError(f"{where} has no model_cfg with vision_cfg and text_cfg")
    for name, section in {"": config, "vision_cfg": vision, "text_cfg": text}.items():
        _check(section, name, where)
    width, layers = vision.get("width", 768), vision.get("layers", 12)
    head_width = vision.get("head_width", HEAD_WIDTH)
    tower: dict[str, Any] = {"image_size": _side(vision.get("image_size", 224)), "width": width}
    if isinstance(layers, list | tuple):
        tower |= {"kind": "resnet", "layers": tuple(layers), "heads": max(1, 32 * width // head_width)}
    else:
        tower |= {"patch_size": _side(vision.get("patch_size", 16)), "layers": layers, "heads": width // head_width}
        tower |= {"mlp_ratio": vision.get("mlp_ratio", 4.0), "layer_scale": vision.get("ls_init_value")}
    raw = {
        "embed_dim": config.get("embed_dim", 512),
        "quick_gelu": bool(config.get("quick_gelu", False)),
        "vision": tower,
        "text": {
            "context_length": text.get("context_length", 77),
            "vocabulary": text.get("vocab_size", 49_408),
            "width": text.get("width", 512),
            "heads": text.get("heads", 8),
            "layers": text.get("layers", 12),
            "mlp_ratio": text.get("mlp_ratio", 4.0),
            "layer_scale": text.get("ls_init_value"),
        },
    }
    spec = parse_settings(raw, ClipSpec, where)
    found = of_open_clip(images) if isinstance(images, Mapping) else OPENAI_IMAGES
    return spec.model_copy(update={"images": found})


def _check(section: Mapping[str, Any], name: str, where: str) -> None:
    for key, value in section.items():
        if key in _KNOWN[name] or key in _WITHOUT_EFFECT or value is None or value == _USUAL.get(key, object()):
            continue
        place = f"{name}.{key}" if name else key
        raise DataError(f"{where}: {place} is {value!r}, which the architectures built in here do not have")


def _side(size: Any) -> Any:
    return size[0] if isinstance(size, list | tuple) and len(set(size)) == 1 else size
