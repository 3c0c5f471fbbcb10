"""Read the sizes that transformers' configurations of CLIP and SigLIP share, and write them."""

from collections.abc import Mapping
from typing import Any

from openwit.schemas.common.errors import DataError
from openwit.training.config.zoo import ClipSpec, TextSpec, VisionSpec
from openwit.training.models.weights import ratio_of

# Names of activations in transformers: (quick_gelu, gelu) of `ClipSpec`.
_ACTIVATIONS = {
    "quick_gelu": (True, "exact"),
    "gelu": (False, "exact"),
    "gelu_python": (False, "exact"),
    "gelu_pytorch_tanh": (False, "tanh"),
    "gelu_new": (False, "tanh"),
}


def section(config: Mapping[str, Any], name: str, usual: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section of a configuration, with the defaults that config.json leaves out."""
    found = config.get(name)
    given = dict(found) if isinstance(found, Mapping) else {}
    return {**usual, **{key: value for key, value in given.items() if value is not None}}


def sizes(tower: Mapping[str, Any]) -> dict[str, Any]:
    """Return width, layers, heads and the MLP's ratio."""
    return {
        "width": tower["hidden_size"],
        "layers": tower["num_hidden_layers"],
        "heads": tower["num_attention_heads"],
        "mlp_ratio": ratio_of(tower["intermediate_size"], tower["hidden_size"]),
    }


def style(towers: Mapping[str, Mapping[str, Any]], where: str) -> dict[str, Any]:
    """Return activation and epsilon, which both towers must share.

    Args:
        towers: sections by their names.
        where: the file, for messages.

    Raises:
        DataError: they differ, or are not built here; names the field.
    """
    for name, tower in towers.items():
        if tower["hidden_act"] not in _ACTIVATIONS:
            raise DataError(
                f"{where}: {name}.hidden_act is {tower['hidden_act']!r}, which is not built here: known are "
                f"{', '.join(_ACTIVATIONS)}"
            )
        if tower.get("num_channels", 3) != 3:
            raise DataError(f"{where}: {name}.num_channels is {tower['num_channels']}, but images have 3 here")
    (one_name, one), (other_name, other) = towers.items()
    if _ACTIVATIONS[one["hidden_act"]] != _ACTIVATIONS[other["hidden_act"]]:
        raise DataError(
            f"{where}: {one_name}.hidden_act {one['hidden_act']!r} and {other_name}.hidden_act "
            f"{other['hidden_act']!r} are different activations, which no model here has"
        )
    if one["layer_norm_eps"] != other["layer_norm_eps"]:
        raise DataError(
            f"{where}: {one_name}.layer_norm_eps {one['layer_norm_eps']} and {other_name}.layer_norm_eps "
            f"{other['layer_norm_eps']} differ, which no model here has"
        )
    quick, gelu = _ACTIVATIONS[one["hidden_act"]]
    return {"quick_gelu": quick, "gelu": gelu, "norm_eps": one["layer_norm_eps"]}


def side(tower: Mapping[str, Any], key: str, usual: int, where: str) -> Any:
    """Return the side of a square that a configuration may give as two numbers.

    Raises:
        DataError: it is no square.
    """
    found = tower.get(key, usual)
    if not isinstance(found, list | tuple):
        return found
    if len(set(found)) != 1:
        raise DataError(f"{where}: vision_config.{key} is {list(found)}, which is no square")
    return found[0]


def dropped_out(config: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each rate of dropout, which only training would show."""
    found = []
    for name in ("text_config", "vision_config"):
        for key in ("attention_dropout", "dropout"):
            rate = (config.get(name) or {}).get(key)
            if rate:
                found.append(f"{name}.{key} is {rate}, which is not applied in training here")
    return found


def tower_config(spec: ClipSpec, tower: VisionSpec | TextSpec) -> dict[str, Any]:
    """Return what both kinds of configuration say of a tower."""
    return {
        "hidden_size": tower.width,
        "intermediate_size": int(tower.width * tower.mlp_ratio),
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
        "hidden_act": "quick_gelu" if spec.quick_gelu else "gelu" if spec.gelu == "exact" else "gelu_pytorch_tanh",
        "layer_norm_eps": spec.norm_eps,
        "attention_dropout": 0.0,
    }
