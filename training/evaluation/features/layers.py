"""Take the features of a model's image tower: before the map to the shared space, as the paper's probes do, or after.

Appendix A.3 uses the penultimate layer; for CLIP's Vision Transformers that is the class token after the last
normalisation, before the projection (I_f of figure 3). It does not say what it is for CLIP's ResNets: here the output
of the attention pool before its last linear map, which is what leads to the shared space there. Where a tower pools by
the mean or by attention (SigLIP), it is the pooled vector.
"""

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from openwit.schemas.common.errors import RecipeError
from openwit.training.config.choices import Layer


def image_features(model: Any, images: Tensor, layer: Layer = Layer.PENULTIMATE) -> Tensor:
    """Map (B, 3, H, W), normalised, to (B, D).

    Penultimate features are as the tower gives them. Projected ones are of unit length where images and texts share a
    space, and otherwise what the objective's head takes.

    Args:
        model: of `load_model`: one of ours, or your own, which may have a method `encode_image_features(images)`.
        images: of the model's size.
        layer: see `Layer`.

    Raises:
        RecipeError: your own model has no penultimate features.
    """
    if layer is Layer.PROJECTED:
        return _projected(model, images)
    tower = getattr(model, "visual", None)
    found = getattr(getattr(model, "towers", model), "encode_image_features", None) or getattr(tower, "features", None)
    if found is None:
        raise RecipeError(
            "the model has no features before the projection: give it a method encode_image_features(images), or use "
            f"layer {Layer.PROJECTED}"
        )
    features = found(images)
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != len(images):
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise RecipeError(f"encode_image_features must return ({len(images)}, features), not {shape}")
    return features


def _projected(model: Any, images: Tensor) -> Tensor:
    if hasattr(model, "encode_image"):
        embedded: Tensor = model.encode_image(images)
        return embedded
    projected: Tensor = model.visual(images)
    return projected


def pooled_pixels(images: Tensor, side: int) -> Tensor:
    """Map (B, 3, H, W) to (B, 3 side²): the mean colours of areas."""
    return F.adaptive_avg_pool2d(images, side).flatten(1)
