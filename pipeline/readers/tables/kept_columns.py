"""Say how the columns of inputs are kept that are none of ours, and keep them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from openwit.pipeline.common.column_types import type_named
from openwit.pipeline.common.column_values import KEY, UID, json_row
from openwit.pipeline.readers.tables.columns import ResolvedColumns
from openwit.pipeline.readers.tables.kept import kept_json


@dataclass(frozen=True)
class KeptColumns:
    """How the columns are kept that are none of ours.

    Attributes:
        types: name to the name of the type that it has in the dataset.
        carry_keys: whether the key of each row is kept.
        own_uid: whether the key is the sample's uid too.
    """

    types: Mapping[str, str] = field(default_factory=dict)
    carry_keys: bool = False
    own_uid: bool = False

    def any(self, columns: ResolvedColumns) -> bool:
        """Return whether anything of a table is kept."""
        return bool(columns.kept) or (columns.key is not None and (self.carry_keys or self.own_uid))

    def of(self, batch: pa.RecordBatch, columns: ResolvedColumns, where: str) -> list[str | None]:
        """Return what is kept of each row of a batch of a table, as JSON."""
        key = columns.key if self.carry_keys or self.own_uid else None
        types = {name: type_named(kind) for name, kind in self.types.items()}
        return kept_json(batch, columns.kept, types, key, self.own_uid, where)

    def of_row(self, key: str | None, values: Mapping[str, Any] | None = None) -> str | None:
        """Return what is kept of one row or sample as JSON; None for nothing.

        Args:
            key: that the input gives it.
            values: of the kept columns, as JSON can hold them (`column_values.encoded`), by the names that they get.
        """
        found = {name: value for name, value in (values or {}).items() if value is not None}
        if key is not None:
            found |= {KEY: key} if self.carry_keys else {}
            found = {UID: key, **found} if self.own_uid else found
        return json_row(found)


NOTHING_KEPT = KeptColumns()
