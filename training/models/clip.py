"""CLIP: two towers that embed into one space, and a learned temperature (paper section 2.3)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openwit.schemas.common.errors import RecipeError
from openwit.training.config.zoo import ClipSpec, ResNetSpec, TextSpec, VisionSpec
from openwit.training.models.blocks import Style
from openwit.training.models.resnet import ResNet
from openwit.training.models.text import TextTransformer
from openwit.training.models.vit import VisionTransformer

INITIAL_LOGIT_SCALE = math.log(1 / 0.07)


class Clip(nn.Module):
    """Image and text encoders. Both return embeddings of unit length in float32, also under autocast.

    Example:
        >>> model = Clip(spec_of("vit-tiny-64"))
        >>> similarity = model.encode_image(images) @ model.encode_text(tokens).T
    """

    def __init__(
        self,
        spec: ClipSpec,
        patch_dropout: float = 0.0,
        init_logit_scale: float = INITIAL_LOGIT_SCALE,
        init_logit_bias: float | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.inputs = spec.inputs
        self.visual = image_tower(spec, patch_dropout)
        self.text = TextTransformer(spec.text, spec.embed_dim, style_of(spec, spec.text))
        self.logit_scale = nn.Parameter(torch.tensor(init_logit_scale))
        # Only for the sigmoid objective; None adds no key to the state dict, as in open_clip.
        self.logit_bias = None if init_logit_bias is None else nn.Parameter(torch.tensor(init_logit_bias))

    def encode_image(self, images: Tensor) -> Tensor:
        """Embed images: (B, 3, H, W), normalised, to (B, embed_dim)."""
        return F.normalize(self.visual(images).float(), dim=-1)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Embed texts: (B, L) ids to (B, embed_dim)."""
        return F.normalize(self.text(tokens).float(), dim=-1)


def style_of(spec: ClipSpec, tower: VisionSpec | TextSpec) -> Style:
    """Return how the blocks of a tower are made."""
    return Style(spec.quick_gelu, spec.gelu, spec.norm_eps, tower.mlp_ratio, tower.layer_scale)


def image_tower(spec: ClipSpec, patch_dropout: float = 0.0) -> ResNet | VisionTransformer:
    """Return the image tower of a spec, also used by the models of other objectives.

    Raises:
        RecipeError: patches are to be dropped, but the tower has none.
    """
    if not isinstance(spec.vision, ResNetSpec):
        return VisionTransformer(spec.vision, spec.embed_dim, style_of(spec, spec.vision), patch_dropout)
    if patch_dropout:
        raise RecipeError("patch_dropout drops patches, which a ResNet does not have: set it to 0")
    return ResNet(spec.vision, spec.embed_dim)
