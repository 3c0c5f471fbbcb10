"""Find the columns of a table that hold the image, its texts and the rest: named by the user, or by convention."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from openwit.pipeline.common.column_values import TRAVELLING, UID
from openwit.pipeline.common.demands import CARRIED, setting_of
from openwit.pipeline.readers.tables.settings import TableColumns
from openwit.schemas.common.errors import DataError
from openwit.schemas.tables.samples import OWN_NAMES

# In order of preference; compared case-insensitively, so that LAION's URL and TEXT are found.
_URL_NAMES = (
    "url",
    "image_url",
    "img_url",
    "imageurl",
    "image_link",
    "image_uri",
    "image_src",
    "src",
    "photo_url",
    "link",
)
_TEXT_NAMES = (
    "text", "texts", "caption", "captions", "alt", "alt_text", "title", "sentence", "sentences", "sentences_raw",
    "raw",
    "description", "label",
)  # fmt: skip
_WIT_TEXT_NAMES = ("caption_reference_description", "caption_attribution_description", "caption_alt_text_description")
_IMAGE_NAMES = ("image", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes", "img", "image.bytes")
_SPLIT_NAMES = ("split", "subset")
_LICENSE_NAMES = ("license", "licence", "license_url", "rights")
_LANGUAGE_NAMES = ("language", "lang")
_KEY_NAMES = ("key", "__key__", "uid", "image_id", "id")

_HOW = "name them in the recipe, for example `columns: {url: NAME, text: NAME}`, or by the command's options"


@dataclass(frozen=True)
class ResolvedColumns:
    """The columns of one table: at least one of `url` and `image`, and a text where texts are required."""

    url: str | None
    texts: tuple[str, ...]
    image: str | None
    split: str | None
    license: str | None
    key: str | None
    language: str | None = None
    constants: Mapping[str, str] = field(default_factory=dict)
    """Columns that the folders of the path give: name to value."""
    kept: Mapping[str, str] = field(default_factory=dict)
    """Columns that are kept as they are: the name that they get to that in the table."""
    demands: Mapping[str, str] = field(default_factory=dict)
    """Columns of what a row demands of its image: name of the demand to that in the table."""

    def light(self) -> list[str]:
        """Return all columns of the file that are read, except the image bytes."""
        names = dict.fromkeys((*self.read_as_text(), *self.as_they_are()))
        return [name for name in names if name not in self.constants]

    def as_they_are(self) -> list[str]:
        """Return the columns whose values are read with their types."""
        return list(dict.fromkeys((*self.kept.values(), *self.demands.values())))

    def read_as_text(self) -> list[str]:
        """Return the columns that are read as URLs, texts, names and keys."""
        single = (self.url, self.split, self.license, self.key, self.language)
        return [*(name for name in single if name is not None), *self.texts]


def resolve_columns(
    schema: pa.Schema,
    columns: TableColumns,
    *,
    where: str,
    folders: Mapping[str, str] | None = None,
    texts_required: bool = True,
    images_required: bool = True,
    any_name: bool = False,
) -> ResolvedColumns:
    """Find the columns in a table's schema.

    Args:
        schema: of the table; for CSV and JSON lines, with strings if the type is unknown.
        columns: names given by the user.
        where: the file, for messages.
        folders: columns that the folders of the path give, with their value.
        texts_required: whether a table without texts is refused.
        images_required: whether a table without images and their URLs is refused.
        any_name: whether the table may have columns that are not in `schema`, as JSON lines may; they can be kept.

    Raises:
        DataError: a named column is missing, no column holds an image or a text, or a type does not fit.
    """
    names = list(schema.names)
    constants = {name: value for name, value in (folders or {}).items() if name not in names}
    columns = _as_written(columns, names)
    single = (columns.split, columns.license, columns.key, columns.language)
    demands = demanded_columns(columns)
    for name in filter(None, (columns.url, *columns.text, columns.image, *single, *demands.values())):
        if name not in names and not (name in single and name in constants):
            raise DataError(f"{where} has no column {name!r}; it has {_listed(names)}: {_HOW}")
    image = _image_column(schema, columns)
    url = columns.url or _first(names, _URL_NAMES)
    texts = columns.text or _text_columns(names, taken=image)
    if url is None and image is None and images_required:
        raise DataError(f"{where} has no column with image URLs or image bytes; it has {_listed(names)}: {_HOW}")
    if not texts and texts_required:
        raise DataError(
            f"{where} has no column with texts; it has {_listed(names)}: {_HOW}, or set candidates.texts_required to "
            "false to keep images without a text"
        )
    resolved = ResolvedColumns(
        url,
        texts,
        image,
        columns.split or _first([*names, *constants], _SPLIT_NAMES),
        columns.license or _first([*names, *constants], _LICENSE_NAMES),
        columns.key or _first(names, _KEY_NAMES),
        columns.language or _first(list(constants), _LANGUAGE_NAMES),
        constants,
    )
    kept = kept_columns(names, columns, resolved, where, any_name=any_name)
    resolved = replace(resolved, demands=demands, kept=kept)
    _check_repeated(names, [*resolved.light(), *filter(None, [image])], where)
    for name in texts:
        if not (name in columns.text and pa.types.is_integer(_field(schema, name).type)):
            _check_text_type(_field(schema, name), where)
    if url is not None and not _is_text(_field(schema, url).type):
        raise DataError(f"{where}: column {url!r} holds {_field(schema, url).type}, not URLs: {_HOW}")
    return resolved


def demanded_columns(columns: TableColumns) -> dict[str, str]:
    """Return the columns of what rows demand of their images: name of the demand to the user's name."""
    named = {name: getattr(columns, setting_of(name)) for name in CARRIED}
    return {name: column for name, column in named.items() if column is not None}


def field_names(names: Sequence[str], columns: TableColumns) -> ResolvedColumns:
    """Find the fields of a JSON object that lies beside an image, by the names that columns of tables have.

    Any may be missing, since every object may have others.
    """
    columns = _as_written(columns, names)
    return ResolvedColumns(
        columns.url or _first(names, _URL_NAMES),
        columns.text or _text_columns(list(names), taken=None),
        None,
        columns.split or _first(names, _SPLIT_NAMES),
        columns.license or _first(names, _LICENSE_NAMES),
        columns.key or _first(names, _KEY_NAMES),
        columns.language or _first(names, _LANGUAGE_NAMES),
    )


def kept_columns(
    names: Sequence[str], columns: TableColumns, resolved: ResolvedColumns, where: str, *, any_name: bool = False
) -> dict[str, str]:
    """Return the columns that are kept as they are: the name that each gets, to its name in the table.

    Args:
        names: of the table or object.
        columns: names given by the user.
        resolved: the columns that are read as URL, text and so on.
        where: it is, for messages.
        any_name: whether the table may have columns that its beginning does not show.

    Raises:
        DataError: two would get one name.
    """
    if columns.keep == "all":
        single = (resolved.url, resolved.image, resolved.split, resolved.license, resolved.language)
        wanted = [name for name in names if name not in (*single, *resolved.texts)]
    else:
        written = {name.strip(): name for name in reversed(names)}
        found = (name if name in names or any_name else written.get(name) for name in columns.keep)
        wanted = [name for name in found if name is not None]
    kept: dict[str, str] = {}
    for name in dict.fromkeys(wanted):
        given = name.strip()
        given = f"{given}_input" if given in OWN_NAMES - {UID} or given in TRAVELLING else given
        if given in kept:
            raise DataError(
                f"{where}: columns {kept[given]!r} and {name!r} would both be kept as {given!r}: rename one"
            )
        kept[given] = name
    return kept


def _field(schema: pa.Schema, name: str) -> pa.Field:
    """Return the column of a name; of several, which Arrow does not look up by name, the first."""
    return schema.field(schema.names.index(name))


def _check_repeated(names: Sequence[str], used: Sequence[str], where: str) -> None:
    """Refuse a table in which a column that is read has the name of another: which one is meant is not known."""
    for name in used:
        if names.count(name) > 1:
            raise DataError(
                f"{where} has {names.count(name)} columns called {name!r}: give each its own name, or name another "
                "column in the recipe"
            )


def is_string(kind: pa.DataType) -> bool:
    """Return whether a type holds text, dictionary-encoded or not."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_list(kind: pa.DataType) -> bool:
    """Return whether a type is a list of any layout."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def is_binary(kind: pa.DataType) -> bool:
    """Return whether a type holds bytes."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _image_column(schema: pa.Schema, columns: TableColumns) -> str | None:
    if columns.image == "":
        return None
    if columns.image is not None:
        if not _holds_image(_field(schema, columns.image).type):
            kind = _field(schema, columns.image).type
            raise DataError(f"column {columns.image!r} holds {kind}, not image bytes or a struct with `bytes`")
        return columns.image
    return _first([field.name for field in schema if _holds_image(field.type)], _IMAGE_NAMES)


def _holds_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and (is_binary(kind.field(index).type) or pa.types.is_null(kind.field(index).type))
    return is_binary(kind)


def _text_columns(names: list[str], taken: str | None) -> tuple[str, ...]:
    wit = tuple(name for name in _WIT_TEXT_NAMES if name in names)
    if wit:
        return wit
    found = _first([name for name in names if name != taken], _TEXT_NAMES)
    return (found,) if found is not None else ()


def _check_text_type(found: pa.Field, where: str) -> None:
    kind = found.type
    if not _is_text(kind) and not (is_list(kind) and _is_text(kind.value_type)):
        raise DataError(f"{where}: column {found.name!r} holds {kind}, not texts or lists of texts: {_HOW}")


def _is_text(kind: pa.DataType) -> bool:
    """Return whether a type holds text, or nothing: a column without a value in one file of many has no type."""
    return is_string(kind) or bool(pa.types.is_null(kind))


def _as_written(columns: TableColumns, names: Sequence[str]) -> TableColumns:
    """Return the user's names as the header writes them, which may have blanks around them."""
    written = {name.strip(): name for name in reversed(names)}

    def one(name: str | None) -> str | None:
        return name if name is None or name in names else written.get(name, name)

    single = {
        key: one(getattr(columns, key))
        for key in ("url", "image", "split", "license", "key", "language", "blur", "md5", "sha256")
    }
    return columns.model_copy(update={**single, "text": tuple(one(name) or name for name in columns.text)})


def _first(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    lower = {name.strip().lower(): name for name in reversed(names)}  # of names that differ in case, the first counts
    return next((lower[name] for name in wanted if name in lower), None)


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:30])
    return (shown + (" …" if len(names) > 30 else "")) if names else "no columns"
