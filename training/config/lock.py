"""The key `model.lock`: parts that keep their weights (locked-image tuning, Zhai et al., arXiv 2111.07991)."""

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from openwit.schemas.common.settings import Settings
from openwit.training.config.limits import MOST_LAYERS

Locked = Literal["all"] | Annotated[int, Field(ge=0, le=MOST_LAYERS)]


class LockSettings(Settings):
    """Parts that keep their weights; batch normalisation in them keeps its statistics and normalises by them.

    The temperature is never locked.
    """

    image: Locked | None = Field(
        None,
        description="all: the whole image tower; a number: all but its last n blocks (stages of a ResNet), the "
        "normalisation after them and the projection; null: nothing",
    )
    text: Locked | None = Field(None, description="the same of the text tower")
    norms: bool = Field(False, description="lock all normalisations of these towers, of free blocks too")

    @pydantic.model_validator(mode="after")
    def _something(self) -> "LockSettings":
        if self.image is None and self.text is None:
            raise ValueError("lock names no tower: give image, text or both")
        return self
