"""Define the settings of tables: the names of columns."""

from pydantic import Field

from openwit.schemas.common.settings import Settings


class TableColumns(Settings):
    """Names of columns; missing ones are found by the conventions of LAION, DataComp, WIT and Hugging Face."""

    url: str | None = Field(None, description="image URL")
    text: tuple[str, ...] = Field((), description="text columns; each holds a text or a list of texts")
    image: str | None = Field(None, description="image bytes, or a struct with `bytes`; '' to ignore such a column")
    split: str | None = Field(None, description="train, val or test")
    license: str | None = Field(None, description="licence of the image, preferably a URL")
    key: str | None = Field(None, description="the table's identifier of the row")
    names: tuple[str, ...] = Field((), description="names of all columns, for CSV and TSV files without a header line")
