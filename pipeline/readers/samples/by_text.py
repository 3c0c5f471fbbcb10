"""Give each text of a sample of a finished dataset the values that go along with it."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from openwit.pipeline.common.column_types import plain_type, type_named
from openwit.pipeline.common.column_values import UID, decoded, encoded, row_of
from openwit.pipeline.readers.tables.kept import cast_values
from openwit.pipeline.readers.tables.kept_columns import KeptColumns
from openwit.schemas.tables.samples import BY_TEXT, ORIGIN_COLUMNS, OWN_NAMES

ORIGINS = {column.name: str(column.type) for column in ORIGIN_COLUMNS}
"""Types of the columns that tell where a text of a finished dataset was found."""
_ARCHIVE, _OFFSET = ORIGINS


class ByText:
    """The values that go along with each text of samples."""

    def __init__(self, table: pa.Table, where: str, names: Mapping[str, str], kept: KeptColumns) -> None:
        self._where = where
        self._uid_kept = UID in names
        self._has_origin = all(
            name in table.column_names and str(table.schema.field(name).type) == kind for name, kind in ORIGINS.items()
        )
        known = {name: at for name, at in names.items() if name in kept.types}
        if self._has_origin:
            known |= {name: name for name in ORIGINS}
        targets = {**kept.types, **ORIGINS}
        self._types = {
            name: (at, plain_type(table.schema.field(at).type), type_named(targets[name]))
            for name, at in known.items()
        }
        self._first = {
            name: encoded(cast_values(table.column(at).combine_chunks(), into, name, where))
            for name, (at, _, into) in self._types.items()
        }

    def of(self, number: int, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the values of each text of a sample, by the names that they get."""
        first = {name: values[number] for name, values in self._first.items()}
        listed = row.get(BY_TEXT.name)
        texts = max(1, len(row["texts"]))
        found = [self._of_text(row_of(text), first) for text in listed] if listed else [dict(first)] * texts
        uid = row.get(UID)
        is_own = uid is not None and [uid] != (row.get("pair_ids") or [])[:1]
        archives, offsets = row.get("archives") or [], row.get("record_offsets") or []
        result = []
        for text, values in enumerate(found):
            origin: dict[str, Any] = {}
            if not self._has_origin and text < min(len(archives), len(offsets)):
                origin = {_ARCHIVE: archives[text], _OFFSET: offsets[text]}
            result.append({**({UID: uid} if is_own or self._uid_kept else {}), **values, **origin})
        return result

    def _of_text(self, values: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of a text that has others than the first, in the types of the dataset in the making."""
        found = {}
        for name, (at, kind, into) in self._types.items():
            if at in OWN_NAMES and at not in ORIGINS:
                found[name] = first[name]  # of the sample, not of its texts
                continue
            array = decoded([values.get(at)], kind)
            found[name] = encoded(cast_values(array, into, name, self._where))[0]
        return found


def has_origin(values: Mapping[str, Any]) -> bool:
    """Return whether the values of a text tell where it was found at first."""
    return _ARCHIVE in values
