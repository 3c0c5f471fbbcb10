"""Settings of the stage select."""

from typing import Literal

from pydantic import Field, model_validator

from openwit.pipeline.stages.limits import LARGEST_CAP, LARGEST_SEED, MOST_PAIRS
from openwit.pipeline.text.matching.settings import MatchMode
from openwit.schemas.common.settings import Settings

BalanceMode = Literal["cap", "probabilistic", "all"]
TextsPerImage = Literal["all", "longest", "first"]


class SelectSettings(Settings):
    """Search and balance."""

    cap: int = Field(
        20_000, ge=1, le=LARGEST_CAP, description="maximum number of pairs drawn per query (t in the paper)"
    )
    target_pairs: int | None = Field(
        None, ge=1, le=MOST_PAIRS, description="choose the cap so that about this number of pairs is kept"
    )
    tail_share: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="choose the cap so that queries below it have this share of matches (MetaCLIP 2)",
    )
    balance: BalanceMode = Field(
        "cap",
        description="cap: the cap smallest u; probabilistic: MetaCLIP's rule; all: keep every pair once, also those "
        "that match no query, with or without a query list",
    )
    match: MatchMode = Field("words", description="words: whole words, Unicode-aware; metaclip: as MetaCLIP matches")
    oversample: float = Field(1.0, ge=1.0, le=1000.0, description="draw cap x oversample, because some downloads fail")
    texts_per_image: TextsPerImage = Field("all", description="texts that an image keeps before balancing")
    near_equal_texts: Literal["keep", "drop"] = Field(
        "keep", description="drop: of an image's texts with the same words keep the longest"
    )
    seed: int = Field(0, ge=0, le=LARGEST_SEED, description="random seed of the balancing draw")

    @model_validator(mode="after")
    def _one_way_to_t(self) -> "SelectSettings":
        if self.target_pairs is not None and self.tail_share is not None:
            raise ValueError("target_pairs and tail_share both choose the cap: set one of them")
        if self.balance == "all":
            limits = {"target_pairs": self.target_pairs, "tail_share": self.tail_share}
            named = [name for name, value in limits.items() if value is not None]
            named += ["oversample"] if self.oversample > 1 else []
            if named:
                raise ValueError(f"balance is all, which keeps every pair: leave out {' and '.join(named)}")
        return self
