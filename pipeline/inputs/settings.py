"""Define what `wit inputs` can fetch: the sources, as the key `inputs` of a recipe names them.

```yaml
inputs:
- commoncrawl: {crawl: CC-MAIN-2024-22, files: 2}
- wikipedia: {language: en}
- pageviews: {day: "2024-05-01", hours: 24}
- wordnet
```
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from openwit.pipeline.readers.settings import COMMON_CRAWL
from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.settings import Settings, parse_settings

_URL = r"^https?://[^\s]+$"
MOST_FILES = 1_000_000
MOST_HOURS = 9_000
_FIRST_VIEWS = "2015-05-01"


def _local(folder: str) -> str:
    if "://" in folder:
        raise ValueError("must be a folder of this machine, where an interrupted file can be gone on with")
    return folder


def _as_text(value: Any) -> Any:
    """Take what YAML reads as a number or a date for the text that was written."""
    return value.isoformat() if hasattr(value, "isoformat") else str(value) if type(value) is int else value


Folder = Annotated[str, AfterValidator(_local)]
Text = Annotated[str, BeforeValidator(_as_text)]


class CommonCrawlInput(Settings):
    """Archives of a crawl of Common Crawl."""

    crawl: str = Field(
        "CC-MAIN-2024-22", pattern=r"^CC-[A-Z0-9-]{4,40}$", description="identifier of the crawl, as on its index page"
    )
    kind: Literal["warc", "wat"] = Field(
        "warc", description="warc: whole pages, about 1 GB a file; wat: their links only, about 0.35 GB, fewer texts"
    )
    files: int = Field(
        2,
        ge=1,
        le=MOST_FILES,
        description="how many of the crawl's files; they are chosen by hash of their path, and more only adds",
    )
    to: Folder = Field("inputs/commoncrawl", min_length=1, description="folder to write")
    base: str = Field(COMMON_CRAWL, pattern=_URL, description="URL that the paths of the crawl are appended to")
    index: str = Field(
        "https://index.commoncrawl.org/collinfo.json",
        pattern=_URL,
        description="JSON list of the crawls, from which near names of an unknown one are taken",
    )


class WikipediaInput(Settings):
    """The articles of a language's Wikipedia, the `pages-articles-multistream` dump."""

    language: str = Field(
        "en", pattern=r"^[a-z][a-z0-9-]{1,20}$", description="code of the Wikipedia, as in its address"
    )
    date: Text = Field(
        "latest", pattern=r"^(latest|\d{8})$", description="YYYYMMDD of a dump that is still published, or latest"
    )
    parts: int | None = Field(
        None,
        ge=1,
        le=MOST_FILES,
        description="the first N parts of a dump that is published in parts too; null: the whole dump",
    )
    to: Folder = Field("inputs/wikipedia", min_length=1, description="folder to write")
    base: str = Field("https://dumps.wikimedia.org/", pattern=_URL, description="URL of the dumps, or of a mirror")


class PageviewsInput(Settings):
    """Hourly page views of all Wikipedias."""

    day: Text = Field("2024-05-01", pattern=r"^\d{4}-\d{2}-\d{2}$", description="the first day, YYYY-MM-DD")
    hours: int = Field(24, ge=1, le=MOST_HOURS, description="how many hours from that day, a file of about 50 MB each")
    to: Folder = Field("inputs/pageviews", min_length=1, description="folder to write")
    base: str = Field("https://dumps.wikimedia.org/", pattern=_URL, description="URL of the dumps, or of a mirror")

    @field_validator("day")
    @classmethod
    def _exists(cls, value: str) -> str:
        import datetime

        try:
            datetime.date.fromisoformat(value)
        except ValueError as error:
            raise ValueError(f"{value} is no day ({error})") from None
        if not _FIRST_VIEWS <= value < "2100":
            raise ValueError(f"must be a day from {_FIRST_VIEWS}, on which the files of page views begin")
        return value


class WordNetInput(Settings):
    """WordNet 3.0, unpacked to the `dict` folder that `queries.wordnet` takes."""

    to: Folder = Field("inputs/wordnet", min_length=1, description="folder to write; `dict` is made in it")
    base: str = Field(
        "https://wordnetcode.princeton.edu/3.0/", pattern=_URL, description="URL of the archive's folder"
    )


class FilesInput(Settings):
    """Files of your own choice, by their URLs."""

    urls: list[str] = Field(min_length=1, max_length=MOST_FILES, description="addresses, http or https")
    sha256: dict[str, str] = Field({}, description="expected checksums: name of the file to its sha256 in hex")
    to: Folder = Field("inputs", min_length=1, description="folder to write")

    @field_validator("urls")
    @classmethod
    def _addresses(cls, value: list[str]) -> list[str]:
        for url in value:
            if not re.match(_URL, url) or not url.partition("?")[0].rstrip("/").rpartition("://")[2].count("/"):
                raise ValueError(f"{url!r} is no http(s) address of a file")
        return value

    @field_validator("sha256")
    @classmethod
    def _checksums(cls, value: dict[str, str]) -> dict[str, str]:
        for name, digest in value.items():
            if not re.fullmatch("[0-9a-fA-F]{64}", digest):
                raise ValueError(f"the sha256 of {name} must be 64 hexadecimal digits")
        return value


SOURCES: dict[str, type[Settings]] = {
    "commoncrawl": CommonCrawlInput,
    "wikipedia": WikipediaInput,
    "pageviews": PageviewsInput,
    "wordnet": WordNetInput,
    "files": FilesInput,
}
"""What can be fetched: the name of each source and its settings."""


@dataclass(frozen=True)
class Wanted:
    """A source with its settings.

    Attributes:
        source: its name in `SOURCES`.
        settings: an object of the source's class.
    """

    source: str
    settings: Settings


def parse_wanted(listed: Any, where: str) -> tuple[Wanted, ...]:
    """Read the key `inputs` of a recipe.

    Args:
        listed: its value, as YAML gives it.
        where: the recipe's file, for messages.

    Raises:
        RecipeError: it is no list of known sources with settings that fit.
    """
    if not isinstance(listed, Sequence) or isinstance(listed, str):
        raise RecipeError(f"{where}: key 'inputs' must hold a list of sources, each as `- source: {{settings}}`")
    return tuple(_wanted(entry, f"{where}: inputs, entry {number}") for number, entry in enumerate(listed, 1))


def wanted(source: str, raw: Mapping[str, Any], where: str) -> Wanted:
    """Return a source with settings given as plain data.

    Raises:
        RecipeError: there is no such source, or a key or a value is wrong.
    """
    if source not in SOURCES:
        close = difflib.get_close_matches(source, SOURCES, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(SOURCES)}"
        raise RecipeError(f"{where}: no source is named {source!r}{hint}")
    return Wanted(source, parse_settings(dict(raw), SOURCES[source], where, prefix=source))


def _wanted(entry: Any, where: str) -> Wanted:
    if isinstance(entry, str):
        entry = {entry: {}}
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise RecipeError(f"{where} must look like `- source: {{settings}}`, got {entry!r}")
    [(source, raw)] = entry.items()
    if not isinstance(raw, Mapping | None):
        raise RecipeError(f"{where}: the settings of {source} must be key: value, got {raw!r}")
    return wanted(str(source), raw or {}, where)
