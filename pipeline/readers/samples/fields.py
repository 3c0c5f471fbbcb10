"""Keep fields of the JSON beside images, or of what a reader of your own yields: their names, types and values."""

from collections.abc import Iterable, Mapping
from typing import Any

from openwit.pipeline.common.column_types import FoundType, type_named
from openwit.pipeline.common.column_values import UID
from openwit.pipeline.common.json_types import NULL, JsonType, joined, json_type, writer_of
from openwit.pipeline.readers.tables.columns import ResolvedColumns, field_names, kept_columns
from openwit.pipeline.readers.tables.kept import check_identifiers
from openwit.pipeline.readers.tables.kept_columns import KeptColumns
from openwit.pipeline.readers.tables.settings import TableColumns
from openwit.pipeline.readers.tables.tables import TableFacts
from openwit.schemas.common.errors import DataError

_MOST_NAMES = 1000
_MOST_LAYOUTS = 1000
_NONE = ResolvedColumns(None, (), None, None, None, None)


class FieldNames:
    """Find the fields of JSON objects that are kept.

    Args:
        columns: names given by the user.
        where: the input, for messages.
        only_kept: whether the objects hold nothing but further columns: no URL, text or licence.
    """

    def __init__(self, columns: TableColumns, where: str, *, only_kept: bool = False) -> None:
        self._columns = columns
        self._where = where
        self._only_kept = only_kept
        self._layouts: dict[tuple[str, ...], dict[str, str]] = {}

    def of(self, found: Mapping[str, Any]) -> dict[str, str]:
        """Return the name that each kept field of an object gets, to its name in the object.

        Raises:
            DataError: two would get one name.
        """
        layout = tuple(found)
        names = self._layouts.get(layout)
        if names is None:
            if len(self._layouts) >= _MOST_LAYOUTS:
                self._layouts.clear()
            read = _NONE if self._only_kept else field_names(layout, self._columns)
            names = self._layouts[layout] = kept_columns(layout, self._columns, read, self._where)
        return names


def field_facts(objects: Iterable[tuple[Mapping[str, Any], bool]], names: FieldNames, where: str) -> TableFacts:
    """Return the fields of JSON objects, the types of those that are kept, and whether all objects have a key.

    Args:
        objects: each with whether it has a key.
        names: finds the fields that are kept.
        where: the input, for messages.

    Raises:
        DataError: there are very many fields, or `uid` is neither text nor a number.
    """
    every: dict[str, None] = {}
    types: dict[str, JsonType] = {}
    keyed = True
    for found, has_key in objects:
        keyed = keyed and has_key
        for name in found:
            if name not in every and len(every) < _MOST_NAMES:
                every[name] = None
        for name, at in names.of(found).items():
            if name == UID:
                check_identifiers([found[at]])
            before, here = types.get(name), json_type(found[at])
            types[name] = here if before is None else before if here is before else joined(before, here)
        if len(types) > _MOST_NAMES:
            raise DataError(
                f"{where}: its samples have more than {_MOST_NAMES:,} different fields: name those to keep in "
                "candidates.columns.keep"
            )
    kept = {name: FoundType.read(NULL if name == UID else values) for name, values in types.items()}
    return TableFacts([*every], kept, keyed)


class FieldValues:
    """Write the kept fields of JSON objects in the types of the dataset's columns.

    An object's own `uid` is its sample's, whether it is kept or not, unless `columns.key` names another.
    """

    def __init__(self, columns: TableColumns, kept: KeptColumns, where: str, *, only_kept: bool = False) -> None:
        self._names = FieldNames(columns, where, only_kept=only_kept) if columns.keep else None
        self._writers = {name: writer_of(name, type_named(kind)) for name, kind in kept.types.items()}
        self._with_uid = not kept.own_uid and not only_kept

    def of(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of an object by the names that they get."""
        values: dict[str, Any] = {}
        if self._with_uid and (uid := own_uid(found)) is not None:
            values[UID] = uid
        if self._names is None:
            return values
        for name, at in self._names.of(found).items():
            if name == UID:
                values[UID] = None if found[at] is None else str(found[at])
            elif (write := self._writers.get(name)) is not None:
                values[name] = write(found[at])
        return values


def own_uid(found: Mapping[str, Any]) -> str | None:
    """Return the identifier that somebody gave a sample; None if it has none, or one of ours, made of its text."""
    uid = found.get(UID)
    if uid is None or isinstance(uid, bool) or not isinstance(uid, str | int):
        return None
    pairs = found.get("pair_ids")
    return None if isinstance(pairs, list) and pairs[:1] == [uid] else str(uid)
