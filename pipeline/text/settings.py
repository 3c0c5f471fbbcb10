"""Settings of text filters and language identification."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from openwit.schemas.common.plugins import PluginSettings
from openwit.schemas.common.settings import Settings


class TextFilterSettings(Settings):
    """Settings of text filters: which texts are dropped before anything is downloaded."""

    apply_to: Literal["pages", "all", "none"] = Field(
        "pages",
        description="whose texts are filtered: pages (with WAT files), all (tables and readers of your own too) or "
        "none; a changed limit, adult_words and custom apply to every input",
    )
    min_characters: int = Field(
        3,
        ge=1,
        le=1_000_000,
        description="shortest text; a Chinese, Japanese or Korean character counts 3",
    )
    min_words: int = Field(
        1,
        ge=1,
        le=1_000_000,
        description="fewest words, separated by white space; not asked of such scripts",
    )
    max_characters: int = Field(1000, ge=1, le=1_000_000_000, description="longest text in code points")
    boilerplate: bool = Field(True, description="leave out frequent alts that say nothing, such as 'image' or 'logo'")
    credit_lines: bool = Field(True, description="leave out texts that only say who made the picture")
    file_names: bool = Field(True, description="leave out names of files, such as IMG_1234.jpg")
    urls: bool = Field(True, description="leave out texts that are an address, or mostly one")
    max_character_run: int = Field(6, ge=1, le=1_000_000, description="longest run of one letter")
    max_word_run: int = Field(4, ge=1, le=1_000_000, description="longest run of one word")
    adult_words: Path | None = Field(
        None, description="file with a word or phrase a line; texts with one are left out"
    )
    custom: tuple[PluginSettings, ...] = Field(
        (),
        description="filters of your own by dotted name, applied last: "
        "[mypkg.no_memes, {name: mypkg.min_words, words: 3}]",
    )


class LanguageSettings(Settings):
    """Settings of languages: which are kept, and the minimum confidence of the identifier."""

    languages: tuple[str, ...] = Field((), description="ISO 639-1 codes to keep; empty or null keeps all")
    min_score: float = Field(
        0.25,
        ge=0,
        le=1,
        description="least confidence; higher values lose short texts: 0.5 loses a sixth of two-word captions",
    )
    page_context: bool = Field(
        True,
        description="read an unsure text in the light of its page's title and other texts: short captions need it",
    )
    langdetect: bool = Field(
        False, description="ask langdetect about unsure texts: somewhat fewer wrong ones, at 3 ms each"
    )
    unsure: tuple[float, float] = Field(
        (0.2, 0.3), description="confidences between which langdetect decides about a wanted language"
    )

    @field_validator("languages", mode="before")
    @classmethod
    def _null_is_all(cls, value: object) -> object:
        return () if value is None else value

    @field_validator("unsure")
    @classmethod
    def _is_range(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] <= value[1] <= 1:
            raise ValueError("unsure must be two confidences, the smaller first, both in [0, 1]")
        return value
