"""Read the sources of queries besides a corpus: WordNet's own files and the user's lists."""

import gzip
import logging
import re
from collections.abc import Sequence
from pathlib import Path, PurePath

import pyarrow as pa
import pyarrow.parquet as pq

from openwit.pipeline.common.counting import ReasonCounter
from openwit.pipeline.readers.tables.files import format_of, head_of, is_table_name, is_text_name
from openwit.pipeline.readers.tables.settings import TableColumns
from openwit.pipeline.readers.tables.sound_text import TextDecoder
from openwit.pipeline.readers.tables.text_layout import HEAD_BYTES, text_layout
from openwit.pipeline.readers.tables.text_tables import csv_batches, csv_names
from openwit.pipeline.text.matching.settings import MatchMode
from openwit.pipeline.text.normalise import normalise
from openwit.schemas.common.errors import DataError, one_line
from openwit.schemas.common.lenient_json import lenient_json
from openwit.schemas.common.matching_paths import refuse_special
from openwit.schemas.common.packed_lists import LIST_COMPRESSIONS, read_list
from openwit.schemas.common.text_files import decode_text, said

_log = logging.getLogger(__name__)

_COUNT_NAMES = ("count", "counts", "n", "frequency", "freq")
_WORDNET_INDEXES = ("index.noun", "index.verb", "index.adj", "index.adv")
# Made by .ci/make_wordnet.py; see NOTICE for its licence.
_BUILTIN_LEMMAS = Path(__file__).with_name("wordnet-3.0.txt.gz")


def builtin_wordnet() -> list[str]:
    """Return the lemmas of WordNet 3.0 packaged with OpenWIT, equal to `read_wordnet` of its `dict` folder."""
    return gzip.decompress(_BUILTIN_LEMMAS.read_bytes()).decode().splitlines()


def read_wordnet(folder: Path) -> list[str]:
    """Return lemmas of all synsets from WordNet's `dict` folder (index.noun …), underscores undone, sorted, each once.

    Raises:
        DataError: the folder is not WordNet's `dict`.
    """
    lemmas: set[str] = set()
    for name in _WORDNET_INDEXES:
        path = folder / name
        if not path.exists():
            raise DataError(f"{folder} is not WordNet's dict folder: {name} is missing")
        refuse_special(path, str(path))
        with path.open(encoding="utf-8", errors="replace") as lines:
            # Lines of the licence begin with a space (wndb(5WN)).
            lemmas.update(line.split(" ", 1)[0].replace("_", " ") for line in lines if not line.startswith(" "))
    return sorted(lemmas)


def read_query_table(path: Path) -> list[str]:
    """Return queries of a user's list, in its order.

    A text file has one query per line; a table (Parquet, CSV, TSV, JSON lines) has a column `query`; a JSON file holds
    a list of queries, as MetaCLIP's `metadata.json`, or JSON lines. Values of the column are texts: `007` keeps its
    zeros, `NA` is a word.

    Raises:
        DataError: the file is missing, unreadable, of an unknown kind, or a table without that column.
    """
    name = str(path)
    refuse_special(path, f"query list {path}")
    try:
        if is_table_name(name):
            kind, compression = format_of(name)
            if kind == "parquet":
                return _column(pq.ParquetFile(path).read(), path)
            return _json_queries(path) if kind == "jsonl" else _text_column(name, kind, compression)
        plain = PurePath(name.lower())
        plain = plain.with_suffix("") if plain.suffix in LIST_COMPRESSIONS else plain
        if is_table_name(plain.name) and format_of(plain.name)[0] == "jsonl":
            return _json_queries(path)
        if not is_text_name(plain.name) and plain.suffix:
            raise DataError(
                f"query list {path} is of an unknown kind by its name: use .txt (one query per line), .csv, .tsv, "
                ".parquet, .json or .jsonl"
            )
        text = said(decode_text(read_list(path, f"query list {path}")), f"query list {path}")
    except FileNotFoundError:
        raise DataError(f"query list {path} does not exist") from None
    except IsADirectoryError:
        raise DataError(f"query list {path} is a folder: name its files") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"query list {path} cannot be read: {one_line(error)}") from error
    # Not splitlines(), which also splits at characters that may stand in a query.
    return [line for line in (raw.strip() for raw in re.split("\r\n|\r|\n", text)) if line]


def title_text(title: str, match: MatchMode) -> str:
    """Return what captions are searched for to find an article's name; `metaclip` keeps its parenthesis and case."""
    return normalise(title_query(title)) if match == "words" else title.replace("_", " ").strip()


def _text_column(name: str, kind: str, compression: str | None) -> list[str]:
    """Return the column `query` of a CSV or TSV file, as written."""
    counter = ReasonCounter()
    columns = TableColumns()
    layout = text_layout(head_of(name, compression, HEAD_BYTES), kind, columns)
    header = csv_names(name, compression, columns, layout)
    named = [found for found in header if found.strip().lower() == "query"]
    if len(named) > 1:
        raise DataError(f"query list {name} has {len(named)} columns called 'query': give each its own name")
    column = next(iter(named), None)
    if column is None:
        raise DataError(f"query list {name} has no column 'query' (it has: {', '.join(header)})")
    _say_unused(name, header)
    batches = csv_batches(name, compression, columns, [column], counter, layout=layout)
    queries = [query or "" for batch in batches for query in batch.column(0).to_pylist()]
    for reason, details in counter.details.items():
        _log.warning("query list %s: %s: %s", name, reason.replace("_", " "), "; ".join(details[:3]))
    return queries


def _json_queries(path: Path) -> list[str]:
    """Return the queries of a JSON list of texts or of objects with `query`, or of JSON lines of either."""
    text = said(decode_text(read_list(path, f"query list {path}")), f"query list {path}")
    value, problem = lenient_json(text.encode())
    if not isinstance(value, list) or problem.startswith("JSON is malformed: trailing"):
        value = []
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                found, problem = lenient_json(line.encode())
                if found is None:
                    raise DataError(
                        f"query list {path}, line {number}: {problem}: give a list of texts, or one per line"
                    )
                value.append(found)
    without = next((each for each in value if isinstance(each, dict) and "query" not in each), None)
    if without is not None:
        raise DataError(
            f"query list {path} holds an object without `query` (it has: {', '.join(map(repr, list(without)[:5]))}): "
            "give a list of texts, or objects with `query`"
        )
    queries = [each.get("query") if isinstance(each, dict) else each for each in value]
    for each in queries:
        if isinstance(each, bool) or not isinstance(each, str | int | float):
            raise DataError(
                f"query list {path} holds {str(each)[:60]!r} where a query should be: give a list of texts"
            )
    return [str(each) for each in queries]


def title_query(title: str) -> str:
    """Return an article's name as a query: without the trailing parenthesis that sets it apart from namesakes."""
    stripped = title.rstrip()
    if not stripped.endswith(")"):
        return title
    begin = stripped.rfind("(")
    if begin < 0 or ")" in stripped[begin:-1]:
        return title
    return stripped[:begin].rstrip()


def _say_unused(path: Path | str, names: Sequence[str]) -> None:
    """Say that counts are not read: they come from the captions themselves, or from Wikipedia."""
    unused = [name for name in names if name.strip().lower() in _COUNT_NAMES]
    if unused:
        _log.warning("query list %s: column %r is not used: only `query` is read", path, unused[0])


def _column(table: pa.Table, path: Path) -> list[str]:
    named = table.column_names.count("query")
    if named > 1:
        raise DataError(f"query list {path} has {named} columns called 'query': give each its own name")
    if not named:
        raise DataError(f"query list {path} has no column 'query' (it has: {', '.join(table.column_names)})")
    _say_unused(path, table.column_names)
    decoder = TextDecoder()
    column = (
        pa.chunked_array([decoder.sound(batch).column(0) for batch in table.select(["query"]).to_batches()], type=None)
        if table.num_rows
        else table.column("query")
    )
    for note in decoder.notes():
        _log.warning("query list %s: %s", path, note)
    return ["" if value is None else str(value) for value in column.to_pylist()]
