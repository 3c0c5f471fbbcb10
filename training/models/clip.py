"""CLIP: two towers that meet in one space, and a learned temperature (paper section 2.3)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openwit.schemas.common.errors import OpenWITError
from openwit.training.models.resnet import ResNet
from openwit.training.models.text import TextTransformer
from openwit.training.models.vit import VisionTransformer
from openwit.training.models.zoo import ClipSpec, ResNetSpec

INITIAL_LOGIT_SCALE = math.log(1 / 0.07)
MAX_LOGIT_SCALE = math.log(100)


class Clip(nn.Module):
    """Image and text encoders. Both answer embeddings of unit length in float32, whatever autocast does inside.

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
        self.visual = image_tower(spec, patch_dropout)
        self.text = TextTransformer(spec.text, spec.embed_dim, spec.quick_gelu)
        self.logit_scale = nn.Parameter(torch.tensor(init_logit_scale))
        # Of the sigmoid objective only; None leaves no key in the state dict, as in open_clip.
        self.logit_bias = None if init_logit_bias is None else nn.Parameter(torch.tensor(init_logit_bias))

    def encode_image(self, images: Tensor) -> Tensor:
        """(B, 3, H, W), normalised, to (B, embed_dim)."""
        return F.normalize(self.visual(images).float(), dim=-1)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """(B, L) to (B, embed_dim)."""
        return F.normalize(self.text(tokens).float(), dim=-1)

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Keeps the multiplier of the logits at 100 or less; called after each step, outside the gradient."""
        self.logit_scale.clamp_(max=MAX_LOGIT_SCALE)


def image_tower(spec: ClipSpec, patch_dropout: float = 0.0) -> ResNet | VisionTransformer:
    """The image tower of a spec, for models of other objectives too.

    Raises:
        OpenWITError: patches are to be dropped, and there are none.
    """
    if not isinstance(spec.vision, ResNetSpec):
        return VisionTransformer(spec.vision, spec.embed_dim, spec.quick_gelu, patch_dropout)
    if patch_dropout:
        raise OpenWITError("patch_dropout leaves out patches, which a ResNet does not have: set it to 0")
    return ResNet(spec.vision, spec.embed_dim)
