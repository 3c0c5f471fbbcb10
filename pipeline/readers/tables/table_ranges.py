"""Define the parts in which large tables are read: rows of a Parquet file, bytes of a text file."""

from dataclasses import dataclass

from openwit.pipeline.readers.tables.text_layout import TextLayout


@dataclass(frozen=True)
class RowRange:
    """Rows `first` to `end` of a Parquet table, `end` excluded."""

    first: int
    end: int


@dataclass(frozen=True)
class TextFacts:
    """What was found out about a whole text table, so that all its parts are read in the same way.

    Attributes:
        layout: how the file is written.
        names: of all columns.
        lists: those columns of a JSON lines file that hold lists.
        columns: number of columns of the first line of a table with quotes.
        codec: charset of values that are not UTF-8; None if there are none.
    """

    layout: TextLayout
    names: tuple[str, ...]
    lists: tuple[str, ...] = ()
    columns: int = 0
    codec: str | None = None


@dataclass(frozen=True)
class TextRange:
    """A part of a text table: the rows that begin from byte `start` on and before byte `end`.

    Attributes:
        start, end: in the file; a row begins at each, or the file ends.
        row: number of the first row.
        lines: lines of the file before the part, where they are counted.
        records: rows of a CSV or TSV file before the part, with the header and those that are dropped.
        facts: of the file.
    """

    start: int
    end: int
    row: int
    lines: int
    records: int
    facts: TextFacts

    @property
    def is_first(self) -> bool:
        """Return whether it is the first part, with the header."""
        return self.start == 0


TableRange = RowRange | TextRange
