"""Settings of the stage select."""

from typing import Literal

from pydantic import Field, model_validator

from openwit.pipeline.text.matching.settings import MatchMode
from openwit.schemas.common.settings import Settings

BalanceMode = Literal["cap", "probabilistic"]
TextsPerImage = Literal["all", "longest", "first"]


class SelectSettings(Settings):
    """Search and balance."""

    cap: int = Field(20_000, ge=1, description="pairs a query may draw (t)")
    target_pairs: int | None = Field(
        None, ge=1, description="choose t so that about so many pairs are drawn, instead of naming cap"
    )
    tail_share: float | None = Field(
        None, gt=0, lt=1, description="choose t so that queries below it hold this share of all matches (MetaCLIP 2)"
    )
    balance: BalanceMode = Field("cap", description="cap: exactly the smallest u; probabilistic: MetaCLIP's rule")
    match: MatchMode = Field("words", description="words: whole words, Unicode-correct; metaclip: for parity")
    oversample: float = Field(1.0, ge=1.0, description="draw cap x oversample, to make up for what the download loses")
    texts_per_image: TextsPerImage = Field("all", description="texts an image keeps before the balance")
    near_equal_texts: Literal["keep", "drop"] = Field(
        "keep", description="drop: of the texts of one image that hold the same words keep the longest"
    )
    seed: int = Field(0, ge=0, description="of the draw")

    @model_validator(mode="after")
    def _one_way_to_t(self) -> "SelectSettings":
        if self.target_pairs is not None and self.tail_share is not None:
            raise ValueError("target_pairs and tail_share both choose t: name one of them")
        return self
