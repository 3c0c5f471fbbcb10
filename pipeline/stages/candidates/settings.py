"""Settings of the stage candidates."""

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from openwit.pipeline.readers.settings import COMMON_CRAWL
from openwit.pipeline.readers.tables.settings import TableColumns
from openwit.pipeline.stages.limits import LARGEST_PART, MOST_FILES
from openwit.pipeline.text.settings import LanguageSettings, TextFilterSettings
from openwit.schemas.common.plugins import PluginSettings
from openwit.schemas.common.settings import Settings

SPLIT_NAME = r"[a-z0-9_-]{1,40}"
"""A split names a folder of the dataset."""

TextSource = Literal["alt", "title", "figcaption", "aria-label", "link", "og:description"]


class CandidateSettings(Settings):
    """Settings of the candidates: which (image, text) pairs of the inputs are read and kept."""

    inputs: list[str] = Field(
        description="WARC, WAT or ARC files, tables (Parquet, CSV, TSV, JSONL), tars of samples, lists of URLs "
        "(.txt), folders of images, finished datasets, lists of paths (warc.paths.gz); globs, URLs of fsspec"
    )
    readers: dict[str, PluginSettings] = Field(
        {},
        description="readers of your own by suffix of the input's name ('*' for all), applied before the built-in "
        "ones: {'.zipx': mypkg.read_zipx}",
    )
    list_base: str = Field(
        COMMON_CRAWL, description="base of relative paths in a list of paths (or s3://commoncrawl/, or a folder)"
    )
    max_files: int | None = Field(None, ge=1, le=MOST_FILES, description="read at most N files, the first by name")
    part_bytes: int | None = Field(
        None,
        ge=1,
        le=LARGEST_PART,
        description="stored bytes of an input that one task reads, so that a large file keeps many workers busy; "
        "default: 128 MiB of an archive or tar, 16 MiB of a table (of a Parquet table's columns that are read)",
    )
    skip_unreadable: bool = Field(False, description="skip files that cannot be read, and count them as unreadable")
    texts: list[TextSource] = Field(
        ["alt", "title", "figcaption", "aria-label", "link", "og:description"],
        description="sources of texts on a page",
    )
    texts_required: bool = Field(
        True,
        description="drop images without a text; false: keep them with the empty text, also from tables without texts",
    )
    columns: TableColumns = Field(
        TableColumns(), description="column names of tables, where they are not the usual ones"
    )
    carry_keys: bool | None = Field(
        None,
        description="carry the input's key of each row to the dataset; null: where shard.keys is input",
    )
    name_by_place: bool = Field(
        False,
        description="name images of tars, folders and datasets by their place in the input in place of their URL, so "
        "that two with one URL are two images",
    )
    ftfy: bool = Field(False, description="repair texts decoded with the wrong charset")
    filters: TextFilterSettings = Field(TextFilterSettings(), description="text filters")
    language: LanguageSettings = Field(LanguageSettings(), description="languages to keep")
    held_out: dict[str, list[str]] = Field(
        {}, description="split name to hosts whose images belong to it: val: [gallery.example.org]"
    )
    held_out_share: dict[str, float] = Field(
        {}, description="split name to the share of images, drawn by hash of their URL, that belong to it: val: 0.05"
    )
    keep_drops: bool = Field(True, description="write every dropped pair with its reason")

    @field_validator("inputs")
    @classmethod
    def _not_empty(cls, value: list[str]) -> list[str]:
        if not value:
            raise ValueError("name at least one input file or glob")
        return value

    @model_validator(mode="after")
    def _splits(self) -> "CandidateSettings":
        for name in (*self.held_out, *self.held_out_share):
            if name == "train" or not re.fullmatch(SPLIT_NAME, name):
                raise ValueError(f"{name!r} is no name for a held-out split: use val or test")
        if any(share <= 0 for share in self.held_out_share.values()) or sum(self.held_out_share.values()) >= 1:
            raise ValueError("held_out_share must hold shares above 0 that add up to less than 1")
        return self
