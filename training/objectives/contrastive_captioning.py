"""Contrast and caption at once (CoCa, arXiv 2205.01917): a weighted sum of both losses."""

from typing import Any, Literal

from torch import Tensor

from openwit.schemas.common.errors import RecipeError
from openwit.training.config.model import CustomModelSettings, ModelSettings
from openwit.training.config.zoo import ClipSpec, ResNetSpec
from openwit.training.models.build import built_in_spec
from openwit.training.models.contrastive_captioner import ContrastiveCaptioner
from openwit.training.objectives.base import Group, Inputs, Loss, separable_loss
from openwit.training.objectives.contrastive import ContrastiveObjective, Positives

_NAME = "contrastive_captioning"


class ContrastiveCaptioningObjective(ContrastiveObjective):
    """Contrastive loss of the batch's pairs, and cross-entropy per token of the caption, mean over all its tokens.

    Both means are over the whole batch, whatever its chunks and processes. Evaluations use the embeddings.

    Args:
        contrastive_weight: factor of the contrastive loss.
        captioning_weight: factor of the captioning loss.
        positives, logit_scale: see `ContrastiveObjective`.
        image_pool: `attention` pools an image's embedding from its patches by a learned query; `model` as the
            architecture says, such as CLIP's class token.
        image_tokens, multimodal_layers: see `ContrastiveCaptioner`.
    """

    def __init__(
        self,
        positives: Positives = "pair",
        *,
        logit_scale: float | None = None,
        contrastive_weight: float = 1.0,
        captioning_weight: float = 2.0,
        image_pool: Literal["attention", "model"] = "attention",
        image_tokens: int | None = None,
        multimodal_layers: int | None = None,
    ) -> None:
        super().__init__(positives, logit_scale=logit_scale)
        self.contrastive_weight, self.captioning_weight = contrastive_weight, captioning_weight
        self.image_pool = image_pool
        self.image_tokens, self.multimodal_layers = image_tokens, multimodal_layers

    def guess_loss(self, batch_size: int) -> float | None:  # noqa: ARG002
        """See `Objective`: not known, as captions are soon better than a guess."""
        return None

    def build_model(self, settings: ModelSettings | CustomModelSettings) -> ContrastiveCaptioner:
        """See `Objective`."""
        spec, patch_dropout = built_in_spec(settings, objective=_NAME)
        return ContrastiveCaptioner(
            self._fitted(spec),
            patch_dropout,
            image_tokens=self.image_tokens,
            multimodal_layers=self.multimodal_layers,
            init_logit_scale=self.initial_logit_scale,
        )

    def _fitted(self, spec: ClipSpec) -> ClipSpec:
        if isinstance(spec.vision, ResNetSpec):
            raise RecipeError(f"objective {_NAME} attends to patches, which a ResNet does not have: choose a ViT")
        if not spec.text.causal:
            raise RecipeError(
                f"objective {_NAME} predicts each token from those before it, but text.causal is false: choose a "
                "model whose text is causal"
            )
        if self.image_pool == "model":
            return spec
        return spec.model_copy(update={"vision": spec.vision.model_copy(update={"pool": "attention"})})

    def embed(self, model: ContrastiveCaptioner, inputs: Inputs) -> tuple[Tensor, ...]:
        """Return embeddings of images and texts, (b, D) each, unit length, and (b, 3), see `token_terms`."""
        return model.pairs(inputs.images, inputs.tokens)

    def loss(self, model: Any, outputs: tuple[Tensor, ...], inputs: Inputs, group: Group | None) -> Loss:
        """See `Objective`; the metrics have both losses, without their weights."""
        *embeddings, terms = outputs
        contrastive = super().loss(model, tuple(embeddings), inputs, group)
        captioning = separable_loss(terms, group, metric="token_accuracy")
        value = self.contrastive_weight * contrastive.value + self.captioning_weight * captioning.value
        losses = {
            "contrastive_loss": contrastive.value.detach(),
            "captioning_loss": captioning.value.detach(),
        }
        return Loss(value, {**losses, **contrastive.metrics, **captioning.metrics})
