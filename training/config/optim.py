"""The `optim` section: the optimiser, and learning rates by tower and layer."""

from typing import Annotated, Any

import pydantic
from pydantic import Field

from openwit.schemas.common.settings import Settings
from openwit.training.config.plugins import is_dotted

Share = Annotated[float, Field(ge=0, lt=1)]


class OptimSettings(Settings):
    """AdamW with decoupled weight decay on matrices only (paper section 2.5, table 18), or another optimiser."""

    name: str = Field(
        "adamw",
        description="adamw; muon: torch's Muon for matrices in blocks and AdamW for all else; a dotted name: called "
        "with groups of parameters, lr, options, and betas and eps if it takes them",
    )
    options: dict[str, Any] = Field({}, description="further keyword arguments of muon or of your own optimiser")
    lr: float = Field(5e-4, gt=0, le=100, description="peak learning rate")
    image_lr: float | None = Field(None, gt=0, le=100, description="that of the image tower; null: lr")
    text_lr: float | None = Field(None, gt=0, le=100, description="that of the text tower; null: lr")
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="factor of the learning rate from a block to the one before; projections have lr"
    )
    betas: tuple[Share, Share] = Field((0.9, 0.98), description="the paper's for ViT; 0.9, 0.999 for ResNets")
    eps: float = Field(1e-6, gt=0, le=1, description="the paper's for ViT; 1e-8 for ResNets")
    weight_decay: float = Field(0.2, ge=0, le=100, description="not applied to gains, biases and other vectors")
    grad_clip: float | None = Field(
        None, gt=0, le=1e9, description="largest norm of the whole gradient; the paper clips none"
    )
    skip_non_finite: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="steps of a run with a loss or gradient that is not finite that are left out, not its end",
    )

    @pydantic.model_validator(mode="after")
    def _known(self) -> "OptimSettings":
        if self.name not in ("adamw", "muon") and not is_dotted(self.name):
            raise ValueError(f"name {self.name!r} must be adamw, muon or a dotted name such as torch.optim.SGD")
        if self.name == "adamw" and self.options:
            raise ValueError("options are for muon and your own optimiser: adamw has betas, eps and weight_decay")
        return self
