"""Settings of the stage queries."""

from pydantic import Field, model_validator

from openwit.pipeline.stages.limits import LARGEST_PART, MOST_PAIRS, MOST_QUERIES
from openwit.pipeline.text.matching.settings import MatchMode
from openwit.schemas.common.settings import Settings

BUILTIN_WORDNET = "builtin"


class BigramSettings(Settings):
    """Settings of bigrams: which become queries (paper section 2.2: "high pointwise mutual information")."""

    min_count: int = Field(50, ge=1, le=MOST_PAIRS, description="minimum occurrences: PMI prefers pairs seen once")
    min_pmi: float = Field(5.0, ge=-100, le=100, description="minimum pointwise mutual information in bits")
    top: int | None = Field(None, ge=1, le=MOST_QUERIES, description="maximum number of bigrams, by highest PMI")


class QuerySettings(Settings):
    """Settings of the query list: words, bigrams, titles of a Wikipedia dump, WordNet's synsets, your own lists."""

    wikipedia: list[str] = Field(
        [], description="pages-articles dumps (XML) or CirrusSearch content dumps (JSON), compressed or not; globs"
    )
    pageviews: list[str] = Field([], description="files of page views, hourly or daily, which rank the titles; globs")
    language: str = Field("en", pattern=r"^[a-z][a-z0-9-]*$", description="the Wikipedia whose page views count")
    wordnet: str | None = Field(
        None,
        description="WordNet's `dict` folder, or `builtin`: the 147,306 lemmas of WordNet 3.0 bundled with OpenWIT",
    )
    tables: list[str] = Field(
        [], description="your own lists: a text file with one query per line, or a table with a column `query`"
    )
    min_count: int = Field(
        100,
        ge=1,
        le=MOST_PAIRS,
        description="minimum occurrences of a word (paper: 100 in English Wikipedia)",
    )
    bigrams: BigramSettings | None = Field(BigramSettings(), description="null for none")
    titles: bool = Field(True, description="take the names of the articles")
    min_views: int = Field(
        70,
        ge=1,
        le=MOST_PAIRS,
        description="minimum views of a title, summed over the files of page views",
    )
    max_words: int = Field(6, ge=1, le=1000, description="maximum words of a title or synset")
    limit: int = Field(
        500_000,
        ge=1,
        le=MOST_QUERIES,
        description="maximum number of queries: all synsets and words, then bigrams and titles by rank",
    )
    match: MatchMode | None = Field(
        None,
        description="how captions will be matched; words: entries that differ in case or spelling are one query; "
        "metaclip: every entry as it is; null: as the recipe's step select, words if there is none",
    )
    part_bytes: int = Field(
        64 << 20,
        ge=1,
        le=LARGEST_PART,
        description="compressed bytes of a multistream dump that one task reads",
    )

    @model_validator(mode="after")
    def _some_source(self) -> "QuerySettings":
        if not (self.wikipedia or self.pageviews or self.wordnet or self.tables):
            raise ValueError("name at least one source of queries: wikipedia, pageviews, wordnet or tables")
        return self
