"""Make sure that text columns are valid UTF-8, which Arrow takes for granted in what Parquet files call text."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from openwit.pipeline.readers.tables.line_stream import LineStream
from openwit.schemas.common.charset import detect_or_western
from openwit.schemas.common.charset.unicode import is_utf8
from openwit.schemas.common.wording import counted

_READ_BYTES = 1 << 20


class TextDecoder:
    """Decode columns and lines; what is not UTF-8 is read in a charset that is detected once per file.

    Args:
        unit: what is decoded at a time, for the notes.
        codec: the charset, if it is known.

    Attributes:
        codec: the charset; None until it is known.
    """

    def __init__(self, unit: str = "value", codec: str | None = None) -> None:
        self._unit = unit
        self.codec = codec
        self._values = 0
        self._lost = 0

    def decode(self, column: pa.Array) -> pa.Array:
        """Return a column of bytes as strings."""
        try:
            return column.cast(pa.string())
        except pa.ArrowInvalid:
            values = column.to_pylist()
            self._detect(values)
            return pa.array(self._texts(values), pa.string())

    def sound(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return a batch whose texts are valid UTF-8: itself, nearly always."""
        try:
            batch.validate(full=True)
        except pa.ArrowInvalid:
            columns = [self._sound_column(column) for column in batch.columns]
            return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
        return batch

    def notes(self) -> list[str]:
        """Return what was taken, and how many characters could not be decoded."""
        if not self._values:
            return []
        lost = f"; {counted(self._lost, 'character')} could not be decoded" if self._lost else ""
        return [f"{counted(self._values, self._unit)} not in UTF-8 read as {self.codec}{lost}"]

    def text(self, value: bytes) -> str:
        """Return a value, or a line, as text."""
        try:
            return value.decode()
        except UnicodeDecodeError:
            self.codec = self.codec or detect_or_western(value)
            text = value.decode(self.codec, "replace")
            self._values += 1
            self._lost += text.count("\ufffd")
            return text

    def lines(self, data: bytes) -> bytes:
        """Return whole lines as UTF-8."""
        lines = data.split(b"\n")
        self._detect(lines)
        return b"\n".join(line if is_utf8(line) else self.text(line).encode() for line in lines)

    def _sound_column(self, column: pa.Array) -> pa.Array:
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            if pa.types.is_dictionary(column.type):
                column = column.dictionary_decode()
            if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
                lists = column.cast(pa.list_(pa.binary())).to_pylist()
                self._detect([value for values in lists for value in values or ()])
                texts = [None if values is None else self._texts(values) for values in lists]
                return pa.array(texts, pa.list_(pa.string()))
            return self.decode(column.cast(pa.binary()))
        return column

    def _detect(self, values: Sequence[bytes | None]) -> None:
        if self.codec is None:
            odd = [value for value in values if value is not None and not is_utf8(value)]
            self.codec = detect_or_western(b"\n".join(odd))

    def _texts(self, values: list[Any]) -> list[str | None]:
        return [None if value is None else self.text(value) for value in values]


class Utf8Lines(LineStream):
    """A text file as UTF-8: lines in another charset are decoded one by one, all others pass unchanged.

    Args:
        file: the text.
        decoder: decodes the lines, and counts them.
    """

    def __init__(self, file: Any, decoder: TextDecoder) -> None:
        super().__init__()
        self._file = file
        self._decoder = decoder

    def _chunk(self) -> bytes:
        data: bytes = self._file.read(_READ_BYTES)
        return data

    def _lines(self, data: bytes) -> bytes:
        return data if is_utf8(data) else self._decoder.lines(data)
