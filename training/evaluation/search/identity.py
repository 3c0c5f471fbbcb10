"""Identify the weights that made embeddings, so that those of two models are never compared."""

from collections.abc import Mapping
from typing import Any

from openwit.schemas.common.errors import RecipeError
from openwit.training.checkpoints.load import LoadedModel

Identity = dict[str, Any]
"""`sha256` of the file of weights, and what else decides which function they are: `weights`, `quick_gelu`."""


def identity_of(model: LoadedModel) -> Identity:
    """Return the identity of a model's embeddings."""
    about = model.about
    digest = about.get("checkpoint_sha256") or about.get("weights_sha256")
    further = {key: about[key] for key in ("weights", "quick_gelu") if key in about}
    return {
        "sha256": digest,
        **{key: value if isinstance(value, bool) else str(value) for key, value in further.items()},
    }


def check_same(found: Mapping[str, Any], model: LoadedModel, where: object) -> None:
    """Refuse a model that did not make the embeddings.

    Raises:
        RecipeError: naming the first difference.
    """
    own = identity_of(model)
    if found.get("sha256") != own["sha256"]:
        raise RecipeError(
            f"{where} was made by other weights (sha256 {str(found.get('sha256'))[:12]}…) than this model's "
            f"({str(own['sha256'])[:12]}…): give the model that made it, or embed again"
        )
    for key in ("weights", "quick_gelu"):
        if found.get(key) != own.get(key):
            raise RecipeError(f"{where} was made with {key} {found.get(key)}, and this model has {key} {own.get(key)}")
