"""Read the sources of queries besides a corpus: WordNet's own files and the user's lists."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from openwit.pipeline.text.matching.settings import MatchMode
from openwit.pipeline.text.normalise import normalise
from openwit.schemas.common.errors import DataError

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
        with path.open(encoding="utf-8", errors="replace") as lines:
            # Lines of the licence begin with a space (wndb(5WN)).
            lemmas.update(line.split(" ", 1)[0].replace("_", " ") for line in lines if not line.startswith(" "))
    return sorted(lemmas)


def read_query_table(path: Path) -> list[str]:
    """Return queries of a user's list, in its order: a text file of one per line, or a table with a column `query`.

    Raises:
        DataError: the file is missing, unreadable, or a table without that column.
    """
    suffixes = [s.lower() for s in path.suffixes]
    try:
        if ".parquet" in suffixes:
            return _column(pq.read_table(path), path)
        if ".tsv" in suffixes or ".csv" in suffixes:
            delimiter = "\t" if ".tsv" in suffixes else ","
            options = pa_csv.ParseOptions(delimiter=delimiter, quote_char=False if delimiter == "\t" else '"')
            return _column(pa_csv.read_csv(path, parse_options=options), path)
        data = path.read_bytes()
        text = (gzip.decompress(data) if ".gz" in suffixes else data).decode("utf-8", "replace")
    except FileNotFoundError:
        raise DataError(f"query list {path} does not exist") from None
    except (pa.ArrowInvalid, OSError, EOFError) as error:
        raise DataError(f"query list {path} cannot be read: {' '.join(str(error).split())}") from error
    return [line for line in (raw.strip() for raw in text.splitlines()) if line]


def title_text(title: str, match: MatchMode) -> str:
    """Return what captions are searched for to find an article's name; `metaclip` keeps its parenthesis and case."""
    return normalise(title_query(title)) if match == "words" else title.replace("_", " ").strip()


def title_query(title: str) -> str:
    """Return an article's name as a query: without the trailing parenthesis that sets it apart from namesakes."""
    stripped = title.rstrip()
    if not stripped.endswith(")"):
        return title
    begin = stripped.rfind("(")
    if begin < 0 or ")" in stripped[begin:-1]:
        return title
    return stripped[:begin].rstrip()


def _column(table: pa.Table, path: Path) -> list[str]:
    if "query" not in table.column_names:
        raise DataError(f"query list {path} has no column 'query' (it has: {', '.join(table.column_names)})")
    column = table.column("query")
    return ["" if value is None else str(value) for value in column.to_pylist()]
