"""Settings of the stage card."""

from pydantic import Field

from openwit.schemas.common.settings import Settings


class CardSettings(Settings):
    """Settings of the dataset card."""

    examples: int = Field(24, ge=0, le=200, description="samples shown of train; a quarter of it for other splits")
    queries: int = Field(12, ge=0, le=60, description="number of queries whose samples are shown, from head to tail")
    query_examples: int = Field(4, ge=0, le=20, description="samples shown per query")
