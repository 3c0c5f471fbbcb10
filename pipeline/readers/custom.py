"""Load your own readers, named in the recipe by dotted name and suffix.

::

    candidates:
      inputs: [scans/*.zipx]
      readers: {".zipx": mypkg.read_zipx}

A reader is a function `(path: str, **settings)` that yields one dictionary per image: `url` or `image` (its bytes),
`text` (a string or a list of strings), and if known `page_url`, `page_title`, `fetch_date`, `license`, `split`, `key`,
and `columns`: a mapping of further values, of which `candidates.columns.keep` keeps those that it names. It must yield
the same records in the same order whenever it reads the same file: images that come as bytes are read again by the
stage fetch, one pass over the file per chunk. Readers come before the built-in ones; `*` matches every input.

The recipe's name and settings of a reader are part of the stage's settings, so a build notices when they change; the
source code is not tracked (see `openwit.schemas.common.plugins`).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from openwit.pipeline.common.json_types import json_type
from openwit.schemas.common.errors import DataError, OpenWITError
from openwit.schemas.common.plugins import PluginSettings, load_callable, one_line

READERS = "candidates.readers"
ANY_SUFFIX = "*"

_OPTIONAL = ("page_url", "page_title", "fetch_date", "license", "split", "key")
_KEYS = ("url", "image", "text", *_OPTIONAL, "columns")


@dataclass(frozen=True, slots=True)
class Record:
    """One image as a reader yields it, checked.

    Attributes:
        number: position in its file, from 0.
        url: empty if there is none.
        image: its bytes; None if they are to be downloaded.
        texts: may be empty.
        columns: further values, as JSON has them.
    """

    number: int
    url: str
    image: bytes | None
    texts: tuple[str, ...]
    page_url: str | None = None
    page_title: str | None = None
    fetch_date: str | None = None
    license: str | None = None
    split: str | None = None
    key: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)


def reader_of(name: str, readers: Mapping[str, PluginSettings]) -> PluginSettings | None:
    """Return the reader whose suffix the name of a file ends with (in any case), the longest suffix first."""
    last = name.lower().partition("?")[0].rpartition("/")[2]
    for suffix in sorted(readers, key=len, reverse=True):
        if suffix == ANY_SUFFIX or last.endswith(suffix.lower()):
            return readers[suffix]
    return None


def check_readers(readers: Mapping[str, PluginSettings]) -> None:
    """Import every reader of a recipe and check that it can be called.

    Raises:
        RecipeError: one cannot.
    """
    for suffix, plugin in readers.items():
        load_callable(plugin, key=f"{READERS} {suffix}", positional=1)


def read_records(path: str, name: str, plugin: PluginSettings) -> Iterator[Record]:
    """Yield the records of one file.

    Args:
        path: a local file.
        name: the file as the recipe names it, for messages.
        plugin: the reader.

    Raises:
        RecipeError: the reader cannot be loaded.
        DataError: the reader raises, or yields something else than records; names the file and the reader.
    """
    read = load_callable(plugin, key=READERS, positional=1)
    number = 0
    try:
        for found in read(path, **plugin.settings):
            yield _record(number, found)
            number += 1
    except _BadRecordError as error:
        raise DataError(f"{name}: record {number} of reader {plugin.name!r} {error}") from None
    except GeneratorExit:
        raise
    except OpenWITError as error:
        raise DataError(f"{name}: reader {plugin.name!r} failed at record {number}: {error}") from error
    except Exception as error:
        raise DataError(f"{name}: reader {plugin.name!r} failed at record {number}: {one_line(error)}") from error


def read_record_images(
    path: str, name: str, plugin: PluginSettings, *, numbers: Iterable[int]
) -> Iterator[tuple[int, bytes]]:
    """Yield (number, image bytes) of the wanted records of one file, ascending.

    Raises:
        DataError: as `read_records`, or a wanted record has no bytes or does not exist.
    """
    wanted = sorted(set(numbers))
    position = 0
    if not wanted:
        return
    for record in read_records(path, name, plugin):
        if record.number != wanted[position]:
            continue
        if record.image is None:
            break
        yield record.number, record.image
        position += 1
        if position == len(wanted):
            return
    raise DataError(
        f"{name}: reader {plugin.name!r} yields no image bytes for record {wanted[position]}, but did when its "
        "candidates were read: the file or the reader changed, read the candidates again"
    )


class _BadRecordError(Exception):
    """A record does not follow the format; the message ends the sentence `record N of reader X …`."""


def _record(number: int, found: Any) -> Record:
    if not isinstance(found, Mapping):
        raise _BadRecordError(f"is a {type(found).__name__}, not a dictionary")
    unknown = [key for key in found if key not in _KEYS]
    if unknown:
        raise _BadRecordError(f"has the unknown key {unknown[0]!r}; known keys: {', '.join(_KEYS)}")
    image = found.get("image")
    if image is not None and not isinstance(image, bytes):
        raise _BadRecordError(f"has an image that is a {type(image).__name__}, not bytes")
    given = found.get("text")
    texts = () if given is None else (given,) if isinstance(given, str) else given
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise _BadRecordError("has a text that is neither a string nor a list of strings")
    optional = {key: _string(key, found.get(key)) for key in _OPTIONAL}
    url = _string("url", found.get("url")) or ""
    return Record(number, url, image, tuple(texts), columns=_columns(found.get("columns")), **optional)


def _columns(values: Any) -> Mapping[str, Any]:
    if values is None:
        return {}
    if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
        raise _BadRecordError("has `columns` that are not a mapping of names to values")
    for name, value in values.items():
        try:
            json_type(value)
        except TypeError as error:
            raise _BadRecordError(
                f"has the column {name!r} that holds a {error}: give what JSON has, a text, number, truth value, list "
                "or mapping"
            ) from None
    try:
        json.dumps([*values.items()], ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise _BadRecordError("has `columns` with half a surrogate pair, which UTF-8 cannot encode") from None
    return dict(values)


def _string(key: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise _BadRecordError(f"has a {key} that is a {type(value).__name__}, not a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _BadRecordError(f"has a {key} with half a surrogate pair, which UTF-8 cannot encode") from None
    return value
