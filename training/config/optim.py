"""The `optim` section: AdamW."""

from typing import Annotated

from pydantic import Field

from openwit.schemas.common.settings import Settings

Share = Annotated[float, Field(ge=0, lt=1)]


class OptimSettings(Settings):
    """AdamW with decoupled weight decay on matrices only (paper section 2.5, table 18)."""

    name: str = Field("adamw", description="optimiser: adamw")
    lr: float = Field(5e-4, gt=0, le=100, description="peak learning rate")
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
