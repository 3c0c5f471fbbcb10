"""What a build is: the typed settings of every stage, read from one YAML file. Unknown keys are refused."""

from pathlib import Path

from pydantic import Field

from openwit.pipeline.stages.candidates.settings import CandidateSettings
from openwit.pipeline.stages.card.settings import CardSettings
from openwit.pipeline.stages.dedup.settings import DedupSettings
from openwit.pipeline.stages.fetch.settings import FetchSettings
from openwit.pipeline.stages.queries.settings import QuerySettings
from openwit.pipeline.stages.select.settings import SelectSettings
from openwit.pipeline.stages.shard.settings import ShardSettings
from openwit.schemas.common.settings import Settings, load_settings


class Recipe(Settings):
    """A build, from the query list to the card."""

    name: str = Field(description="of the dataset", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str = Field("", description="for the card")
    queries: QuerySettings
    candidates: CandidateSettings
    select: SelectSettings = SelectSettings()
    fetch: FetchSettings = FetchSettings()
    dedup: DedupSettings = DedupSettings()
    shard: ShardSettings = ShardSettings()
    card: CardSettings = CardSettings()


def load_recipe(path: Path, overrides: list[str]) -> Recipe:
    """Reads a recipe; see `openwit.schemas.common.settings.load_settings` for the errors."""
    return load_settings(path, Recipe, overrides)
