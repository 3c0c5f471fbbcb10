"""Find out how a text table was written: its charset, its delimiter, and whether its fields are quoted."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from openwit.pipeline.readers.tables.settings import TableColumns
from openwit.schemas.common.charset.unicode import wide_codec

HEAD_BYTES = 1 << 18
_DELIMITERS = (",", ";", "\t", "|")
# Excel's own first line, which states the delimiter.
_EXCEL = re.compile(r"[\r\n]*\"?sep=([^\r\n\"])\"?\r?\n", re.IGNORECASE)
_NAMES = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}


@dataclass(frozen=True)
class TextLayout:
    """How a CSV or TSV file is written.

    Attributes:
        wide: codec of a UTF-16 or UTF-32 file, which is transcoded while it is read; None for all other charsets.
        mark: bytes of its byte order mark.
        delimiter: between fields.
        quoted: whether fields may stand in double quotes (RFC 4180).
        skipped: lines before the header.
        notes: what was not as the file's name says, in words.
    """

    wide: str | None
    mark: int
    delimiter: str
    quoted: bool
    skipped: int
    notes: tuple[str, ...]


def text_layout(head: bytes, kind: str, columns: TableColumns) -> TextLayout:
    """Find the layout of a table from its beginning.

    A CSV file is quoted, and its delimiter is the one of `, ; TAB |` that gives the most columns in the header line.
    A TSV file is quoted where every field that begins with a quote ends with one and doubles those inside, as csv
    modules write it, or where quoting gives more lines the columns of the header; else quotes are text (IANA
    text/tab-separated-values).

    Args:
        head: the first `HEAD_BYTES` of the file, decompressed.
        kind: csv | tsv | jsonl, by the file's name.
        columns: the user's settings, which decide over the file.
    """
    wide, mark = wide_codec(head)
    text = head[mark:].decode(wide or "utf-8-sig", "replace")
    if len(head) >= HEAD_BYTES:
        text = text[: text.rfind("\n") + 1] or text
    notes = [f"read as {wide}"] if wide else []
    if kind == "jsonl":
        return TextLayout(wide, mark, "", False, 0, tuple(notes))
    stated = _EXCEL.match(text)
    text = text[stated.end() :] if stated else text
    delimiter = _NAMES.get(columns.delimiter, "") or (stated.group(1) if stated else "")
    if not delimiter:
        delimiter = "\t" if kind == "tsv" else _delimiter(text)
        if kind == "csv" and delimiter != ",":
            notes.append(f"the fields are separated by {delimiter!r}")
    quoted = columns.quotes == "quoted"
    if columns.quotes == "auto":
        quoted = kind == "csv" or _is_quoted(text, delimiter)
        if kind == "tsv" and quoted:
            notes.append("fields in double quotes were unquoted (columns.quotes: text keeps the quotes)")
    return TextLayout(wide, mark, delimiter, quoted, int(stated is not None), tuple(notes))


def _delimiter(text: str) -> str:
    """Return the delimiter of a CSV file: the one that splits the header into most names, a comma in doubt."""
    header = re.split("[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]
    counts = [len(next(csv.reader([header], delimiter=delimiter), [])) for delimiter in _DELIMITERS]
    return _DELIMITERS[counts.index(max(counts))]


def _is_quoted(text: str, delimiter: str) -> bool:
    plain = _rows(text, delimiter, quoting=csv.QUOTE_NONE)
    opened = [field for row in plain for field in row if field.startswith('"')]
    if not opened:
        return False
    if all(_is_whole(field) for field in opened):
        return True
    return _odd(_rows(text, delimiter, quoting=csv.QUOTE_MINIMAL)) < _odd(plain)


def _is_whole(field: str) -> bool:
    """Return whether a field is in quotes from end to end, with doubled quotes inside."""
    return len(field) > 1 and field.endswith('"') and '"' not in field[1:-1].replace('""', "")


def _odd(rows: Sequence[Sequence[str]]) -> int:
    """Return how many rows have another number of fields than the first."""
    return sum(len(row) != len(rows[0]) for row in rows)


def _rows(text: str, delimiter: str, *, quoting: int) -> list[list[str]]:
    csv.field_size_limit(HEAD_BYTES * 4)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting)  # type: ignore[arg-type]
    try:
        return [row for row in reader if row]
    except csv.Error:
        return [[]]
