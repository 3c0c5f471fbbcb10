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
    "pool_type": "tok", "final_ln_after_pool": False, "proj_type": "linear", "attentional_pool": False,
    "patch_dropout": 0.0, "input_patchnorm": False, "global_average_pool": False, "nonscalar_logit_scale": False,
    "custom_text": True, "output_tokens": False,
    "embed_cls": False, "pad_id": 0, "text_mask": "first",
}  # fmt: skip
_BOTH = ("layers", "width", "mlp_ratio", "ls_init_value", "norm_kwargs", "act_kwargs")
_KNOWN = {
    "": ("embed_dim", "quick_gelu", "vision_cfg", "text_cfg"),
    "vision_cfg": ("image_size", "head_width", "patch_size", "no_ln_pre", *_BOTH),
    "text_cfg": ("context_length", "vocab_size", "heads", "no_causal_mask", "pool_type", "proj_bias", *_BOTH),
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
        tower |= {"pre_norm": not vision.get("no_ln_pre", False)}
    raw = {
        "embed_dim": config.get("embed_dim", 512),
        "quick_gelu": bool(config.get("quick_gelu", False)),
        **_style(vision, text, where, resnet="kind" in tower),
        "vision": tower,
        "text": {
            "causal": not text.get("no_causal_mask", False),
            "pool": _pool(text, where),
            "projection_bias": bool(text.get("proj_bias", False)),
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


def _style(vision: Mapping[str, Any], text: Mapping[str, Any], where: str, *, resnet: bool) -> dict[str, Any]:
    """Return epsilon and the kind of GELU, which both towers must share."""
    found: dict[str, Any] = {}
    for key, name, usual in (("norm_kwargs", "eps", 1e-5), ("act_kwargs", "approximate", "none")):
        values = {}
        for tower, section in (("text_cfg", text), ("vision_cfg", vision)):
            given = section.get(key) or {}
            if strange := set(given) - {name}:
                raise DataError(
                    f"{where}: {tower}.{key}.{min(strange)} is set, which the architectures built in here do not have"
                )
            values[tower] = given.get(name, usual)
        # A ResNet has neither layer normalisation nor GELU.
        if values["text_cfg"] != values["vision_cfg"] and not resnet:
            raise DataError(
                f"{where}: text_cfg.{key}.{name} {values['text_cfg']} and vision_cfg.{key}.{name} "
                f"{values['vision_cfg']} differ, which no model here has"
            )
        found[name] = values["text_cfg"]
    if found["approximate"] not in ("none", "tanh"):
        raise DataError(f"{where}: text_cfg.act_kwargs.approximate {found['approximate']!r} is neither none nor tanh")
    return {"norm_eps": found["eps"], "gelu": "exact" if found["approximate"] == "none" else "tanh"}


def _pool(text: Mapping[str, Any], where: str) -> str:
    pool = text.get("pool_type", "argmax")
    if pool not in ("argmax", "tok", "last"):
        raise DataError(f"{where}: text_cfg.pool_type is {pool!r}, which the architectures built in here do not have")
    return "last" if pool == "last" else "end"


def _side(size: Any) -> Any:
    return size[0] if isinstance(size, list | tuple) and len(set(size)) == 1 else size
