"""Find which queries occur in a caption: whole words, overlaps counted, each query at most once per caption.

`words` mode matches over normalised text (pipeline.text.normalise). `metaclip` mode restates the rule of MetaCLIP's
curation for parity: case-sensitive, a query matches when it occurs between spaces after , . ; : ? ! ` have been
separated as words and tab, line feed and carriage return turned into spaces.

Compiled functions do the work on Arrow's buffers (row_kernel, words, runs): no Python object is made per
caption, and the interpreter's lock is released meanwhile.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import xxhash

from openwit.pipeline.text.matching.index import MatchIndex, build_index, load_index, read_only, save_index
from openwit.pipeline.text.matching.rows import BREAKS, PUNCTUATION, Texts, column_of, rows_of, texts_of
from openwit.pipeline.text.matching.settings import MatchMode

__all__ = ["Matcher", "spaced"]

Strings: TypeAlias = Iterable[str | None] | pa.Array | pa.ChunkedArray
"""A column of texts in any form: Arrow's, a pandas Series, a list."""

_APART = re.compile(f"([{re.escape(PUNCTUATION)}])")
_BREAKS = str.maketrans(BREAKS, " " * len(BREAKS))
# A block of captions and its matches fit in the near caches.
_BLOCK_ROWS = 4096
_BLOCK_BYTES = 1 << 18
_MOST_IDS = (1 << 31) - 1


def spaced(text: str) -> str:
    """Return MetaCLIP's form of a text: padded with spaces, punctuation separated, breaks turned into spaces."""
    return _APART.sub(r" \1 ", f" {text} ").translate(_BREAKS)


class Matcher:
    """Find the queries of one list in captions. Instances are independent, thread-safe, and can be pickled.

    Args:
        queries: the list, strings or a column of them; the position of a query is its id. Equal queries match
            together; one without words matches nothing.
        mode: `words` or `metaclip`.
    """

    mode: MatchMode
    _queries_key: str
    _index: MatchIndex

    def __init__(self, queries: Strings, mode: MatchMode = "words") -> None:
        self._set(_texts(queries), mode, None)

    @classmethod
    def load(cls, path: Path, queries: Strings, mode: MatchMode = "words") -> "Matcher":
        """Construct a matcher from the file that `save` wrote; if the file is unusable, build the index and save it
        there.

        A file that is missing, damaged, of another version or another list is not used. The file is mapped, so that
        the processes of a machine share it.
        """
        made = cls.__new__(cls)
        made._set(_texts(queries), mode, path)
        return made

    @classmethod
    def open(cls, path: Path, mode: MatchMode = "words") -> "Matcher | None":
        """Return the matcher that `save` wrote, whatever its queries; None if the file is unusable here."""
        made = cls.__new__(cls)
        index = load_index(path, _key_begin(mode), begin=True)
        if index is None:
            return None
        made.mode, made._index = mode, index
        return made

    def save(self, path: Path) -> None:
        """Write what was built, for `load` and `open`; whole or not at all."""
        save_index(self._index, path, _key_begin(self.mode) + self._queries_key)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # Unpickled arrays are writable, for which the functions would be compiled again.
        self._index = read_only(self._index)

    def _set(self, texts: Texts, mode: MatchMode, path: Path | None) -> None:
        self.mode = mode
        self._queries_key = _queries_key(texts)
        index = None if path is None else load_index(path, _key_begin(mode) + self._queries_key)
        self._index = index or build_index(rows_of(texts, mode, query=True), mode == "metaclip")
        if path is not None and index is None:
            self.save(path)

    def match(self, texts: Strings) -> pa.ListArray:
        """Match a column of captions.

        Args:
            texts: N strings: an Arrow column, a pandas Series or any other iterable. None, NaN and NA match nothing;
                bytes that are not UTF-8 separate words.

        Returns:
            List array (N,) of int32 query ids, ascending, each once.

        Raises:
            TypeError: the column does not hold strings.
            ValueError: the offsets of the column are damaged, or there are more than 2^31 matches.
        """
        column = _column(texts)
        chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        values, offsets, total = [np.zeros(0, np.int32)], [np.zeros(1, np.int64)], 0
        for block in (block for chunk in chunks for block in _blocks(texts_of(chunk))):
            ids, ends = self._index.match(rows_of(block, self.mode), self.mode == "metaclip")
            values.append(ids)
            offsets.append(ends[1:] + total)
            total += len(ids)
        if total > _MOST_IDS:
            raise ValueError("more matches than a column of lists can hold: match fewer captions at a time")
        return pa.ListArray.from_arrays(
            pa.array(np.concatenate(offsets).astype(np.int32)), pa.array(np.concatenate(values))
        )

    def match_text(self, text: str) -> list[int]:
        """Query ids of one caption, ascending."""
        found: list[int] = self.match(column_of([text]))[0].as_py()
        return found


def _texts(queries: Strings) -> Texts:
    column = _column(queries)
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.cast(pa.large_string()).chunks or [pa.array([], pa.large_string())])
    return texts_of(column)


def _column(texts: Strings) -> pa.Array | pa.ChunkedArray:
    """Return strings as an Arrow column; pandas's missing values become nulls."""
    if isinstance(texts, pa.Array | pa.ChunkedArray):
        return texts
    if isinstance(texts, str | bytes):
        raise TypeError("a single text was given where a column of texts is needed: put it into a list")
    values: Any = texts if hasattr(texts, "__len__") else list(texts)
    try:
        return pa.array(values, pa.large_string(), from_pandas=True)
    except UnicodeEncodeError:
        return column_of(values)
    except pa.ArrowTypeError as error:
        raise TypeError(f"a column of texts holds something else: {error}") from error


def _key_begin(mode: MatchMode) -> str:
    """Return what an index depends on besides the queries and the code."""
    return f"{mode} {unicodedata.unidata_version} "


def _queries_key(texts: Texts) -> str:
    digest = xxhash.xxh3_128()
    if len(texts.starts):
        # Offsets count from the first text: equal lists have equal keys for any memory layout.
        digest.update(texts.data[texts.starts[0] : texts.ends[-1]].data)
        digest.update((texts.ends - texts.starts[0]).data)
    digest.update(texts.valid.data)
    return f"{len(texts.starts)} {digest.hexdigest()}"


def _blocks(texts: Texts) -> Iterator[Texts]:
    rows, first = len(texts.starts), 0
    while first < rows:
        within = int(np.searchsorted(texts.ends, texts.starts[first] + _BLOCK_BYTES))
        last = max(first + 1, min(first + _BLOCK_ROWS, rows, within))
        yield texts.part(first, last)
        first = last
