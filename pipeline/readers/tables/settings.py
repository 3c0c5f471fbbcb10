"""Define the settings of tables: the names of columns, and how text tables are written."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from openwit.schemas.common.settings import Settings


class TableColumns(Settings):
    """Names of columns; missing ones are found by the conventions of LAION, DataComp, WIT and Hugging Face.

    A name may also be that of a folder in the path, as in `split=test/part-0.parquet` (Hive partitions).
    """

    url: str | None = Field(None, description="image URL")
    text: tuple[str, ...] = Field((), description="text columns; each holds a text or a list of texts")
    image: str | None = Field(None, description="image bytes, or a struct with `bytes`; '' to ignore such a column")
    split: str | None = Field(None, description="train, val or test")
    license: str | None = Field(None, description="licence of the image, preferably a URL")
    key: str | None = Field(None, description="the table's identifier of the row")
    language: str | None = Field(
        None, description="language of the texts, ISO 639-1; decides over detection where languages are chosen"
    )
    blur: str | None = Field(
        None,
        description="boxes that fetch blurs in the image: a list of boxes, or JSON of one; each is left, top, right, "
        "bottom as fractions of the picture as stored (DataComp's face_bboxes); null: none",
    )
    md5: str | None = Field(None, description="md5 that the image as served must have, in hex digits; null: any")
    sha256: str | None = Field(None, description="sha256 that the image as served must have; null: any")
    keep: Literal["all"] | tuple[Annotated[str, StringConstraints(min_length=1)], ...] = Field(
        (),
        description="further columns that the dataset keeps with their types, or all: those that are not read as one "
        "of the above; a name that the dataset has itself is kept as NAME_input, and `uid` is the sample's uid",
    )
    delimiter: Literal["auto", "comma", "semicolon", "tab", "pipe"] = Field(
        "auto", description="of CSV and TSV files; auto: by the header line"
    )
    quotes: Literal["auto", "quoted", "text"] = Field(
        "auto", description="double quotes around fields of CSV and TSV files; auto: by the file; text: kept as text"
    )
    names: tuple[str, ...] = Field((), description="names of all columns, for CSV and TSV files without a header line")
