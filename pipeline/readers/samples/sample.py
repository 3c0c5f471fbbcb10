"""Define a sample, and read its texts and facts from what lies beside its image: .txt, .caption and .json."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from openwit.pipeline.common.counting import Count
from openwit.pipeline.common.reasons import Reason
from openwit.pipeline.readers.tables.columns import ResolvedColumns, field_names
from openwit.pipeline.readers.tables.settings import TableColumns
from openwit.schemas.common.lenient_json import lenient_json
from openwit.schemas.common.text_files import decode_text

NO_IMAGE = Reason("no_image", "a sample of a tar has no image")
IMAGE_TOO_LARGE = Reason("image_too_large", "an image in the input has more bytes than any picture should")
LINK_OUTSIDE = Reason("link_outside", "a link to an image outside its folder")
SAMPLE_REASONS = (NO_IMAGE, IMAGE_TOO_LARGE, LINK_OUTSIDE)
"""Why a sample gives no pair."""

BAD_JSON = "bad_json"
TOO_LONG = "text_too_long"
SAME_KEY = "key_twice"
SAME_MEMBER = "member_twice"
FURTHER_IMAGE = "further_image"
OTHER_FILE = "other_file"
DAMAGED_TAR = "damaged_tar"
UNREADABLE_TEXT = "unreadable_text"
SIDECARS_UNUSED = "sidecars_unused"
SAMPLE_NOTES = (
    BAD_JSON, TOO_LONG, SAME_KEY, SAME_MEMBER, FURTHER_IMAGE, OTHER_FILE, DAMAGED_TAR, UNREADABLE_TEXT,
    SIDECARS_UNUSED,
)  # fmt: skip
"""Notes beside the reasons, which drop no pair; they are counted with n = 0 and a detail."""

TEXT_ENDINGS = ("txt", "text", "caption")
IMAGE_ENDINGS = frozenset(("jpg", "jpeg", "jpe", "png", "webp", "gif", "bmp", "tif", "tiff", "avif"))
MAX_IMAGE_BYTES = 128 << 20
MAX_TEXT_BYTES, MAX_JSON_BYTES = 1 << 20, 16 << 20
HEAD_BYTES = 512


@dataclass(slots=True)
class Sample:
    """An image that an input holds.

    Attributes:
        place: where its bytes are, as the reader of images takes it.
        key: what the input calls it.
        url: empty if it has none.
        texts: may be empty.
        text_sources, languages, page_urls, licenses: of each text, if the input tells it of each.
        facts: the whole JSON beside it.
        columns: what goes along with each text, or one for all texts; as `column_values.encoded` writes values.
    """

    place: int
    key: str
    url: str = ""
    texts: list[str] = field(default_factory=list)
    split: str | None = None
    license: str | None = None
    language: str | None = None
    page_url: str | None = None
    fetch_date: str | None = None
    text_sources: list[str] | None = None
    languages: list[str | None] | None = None
    page_urls: list[str | None] | None = None
    licenses: list[str | None] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    columns: list[dict[str, Any]] = field(default_factory=list)


class FactsReader:
    """Complete samples with what lies beside their image; fields of JSON have the names of columns of tables.

    Args:
        columns: names given by the user, which come before what conventions find and before .txt.
        count: receives notes.
    """

    def __init__(self, columns: TableColumns, count: Count) -> None:
        self._columns = columns
        self._count = count
        self._names: dict[tuple[str, ...], ResolvedColumns] = {}

    def complete(self, sample: Sample, text: bytes | None, facts: bytes | None, where: str) -> None:
        """Fill in a sample.

        Args:
            sample: with place and key.
            text: of its .txt.
            facts: its JSON.
            where: it is, for notes.
        """
        found = self._object(facts, where) if facts is not None else None
        plain = "" if text is None else decode_text(text).text.strip()
        sample.texts = [plain] if plain else []
        if found is None:
            return
        names = self._names.get(key := tuple(found))
        if names is None:
            names = self._names[key] = field_names(key, self._columns)
        sample.facts = found
        listed = [text for name in names.texts for text in _texts(found.get(name))]
        # Our own and others' .json lists all texts, and .txt holds the first.
        if listed and (self._columns.text or not plain or plain in (each.strip() for each in listed)):
            sample.texts = listed
        sample.url = _text(found.get(names.url or "")) or ""
        sample.split = _text(found.get(names.split or ""))
        sample.license = _text(found.get(names.license or ""))
        sample.language = _text(found.get(names.language or ""))
        sample.page_url = _text(found.get("page_url"))
        sample.fetch_date = _text(found.get("fetch_date"))
        if self._columns.key is not None:
            sample.key = _text(found.get(names.key or "")) or sample.key

    def _object(self, document: bytes, where: str) -> dict[str, Any] | None:
        value, problem = lenient_json(document)
        if isinstance(value, dict):
            return value
        self._count(BAD_JSON, 0, f"{where}: {problem or 'it is no object'}")
        return None


def _text(value: Any) -> str | None:
    """Return a text or a number of a JSON document as text; of a list the first."""
    if isinstance(value, list):
        value = next(iter(value), None)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value).encode("utf-8", "ignore").decode().strip() or None


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [text.encode("utf-8", "ignore").decode() for text in values if isinstance(text, str) and text.strip()]
