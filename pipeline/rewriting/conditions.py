"""Evaluate conditions on columns of samples, such as `width >= 256` or `language in en,de`."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openwit.pipeline.common.urls import host_of
from openwit.pipeline.rewriting.condition_syntax import split_condition
from openwit.schemas.common.errors import RecipeError

_FIRST = {
    "language": "languages",
    "license": "licenses",
    "page_url": "page_urls",
    "text_source": "text_sources",
    "archive": "archives",
    "priority": "priorities",
}
"""Names for the first item of a list: a sample's first text is the one that it is trained with by default."""
SPLIT = "split"
_COMPUTED: dict[str, pa.DataType] = {
    SPLIT: pa.string(),
    "host": pa.string(),
    "text_length": pa.int32(),
    "aspect_ratio": pa.float64(),
}
_COMPARE: dict[str, Callable[..., Any]] = {
    "==": pc.equal, "=": pc.equal, "!=": pc.not_equal, "<": pc.less, "<=": pc.less_equal, ">": pc.greater,
    ">=": pc.greater_equal,
}  # fmt: skip


@dataclass(frozen=True)
class Condition:
    """One condition: `column operator value`, all as the user wrote them."""

    written: str
    column: str
    operator: str
    value: str

    def check(self, types: Mapping[str, pa.DataType]) -> None:
        """Check a condition against the columns that there are.

        Raises:
            RecipeError: there is no such column, or the value does not fit it.
        """
        kind = type_of(self.column, types)
        if kind is None:
            known = [*types, *_FIRST, *_COMPUTED]
            close = difflib.get_close_matches(self.column, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(sorted(set(known)))}"
            raise RecipeError(f"condition {self.written!r}: there is no column {self.column!r}; {hint}")
        # A regular expression is only read where there is a text.
        self._mask(pa.array([""] if pa.types.is_string(kind) else [], kind))

    def holds(self, samples: pa.Table, split: str) -> np.ndarray:
        """Return for which samples the condition holds: bool (N,). It never holds of a missing value, but for `is`.

        Args:
            samples: N rows of `openwit.schemas.tables.samples.SAMPLES`, perhaps with further columns.
            split: of all of them.
        """
        mask = self._mask(values_of(self.column, samples, split))
        found: np.ndarray = pc.fill_null(mask, False).to_numpy(zero_copy_only=False)
        return found

    def _mask(self, values: pa.Array) -> pa.Array:
        operator, kind = self.operator, values.type
        try:
            if operator in ("is", "is not"):
                return pc.is_null(values) if operator == "is" else pc.is_valid(values)
            if operator in ("~", "!~"):
                if not pa.types.is_string(kind):
                    raise RecipeError(f"condition {self.written!r}: column {self.column!r} is no text, but {kind}")
                mask = pc.match_substring_regex(values, self.value)
                return mask if operator == "~" else pc.invert(mask)
            if operator in ("in", "not in"):
                wanted = pa.array([_scalar(part, kind).as_py() for part in _listed(self.value)], kind)
                mask = pc.and_(pc.is_in(values, wanted), pc.is_valid(values))
                return mask if operator == "in" else pc.and_(pc.invert(mask), pc.is_valid(values))
            return _COMPARE[operator](values, _scalar(self.value, kind))
        except (pa.ArrowException, ValueError, TypeError) as error:
            if isinstance(error, RecipeError):
                raise
            raise RecipeError(
                f"condition {self.written!r}: column {self.column!r} is {kind}, with which {self.operator} "
                f"{self.value!r} does not go"
            ) from error


def parse_condition(text: str) -> Condition:
    """Read a condition; see `openwit.pipeline.rewriting.condition_syntax.split_condition`."""
    return Condition(text, *split_condition(text))


def parse_conditions(texts: Sequence[str]) -> list[Condition]:
    """Read conditions, all of which must hold."""
    return [parse_condition(text) for text in texts]


def type_of(column: str, types: Mapping[str, pa.DataType]) -> pa.DataType | None:
    """Return the type of what a condition names; None if there is nothing of the name."""
    if column in types:
        return types[column]
    if column in _FIRST:
        kind = types.get(_FIRST[column])
        return None if kind is None else kind.value_type
    return _COMPUTED.get(column)


def values_of(column: str, samples: pa.Table, split: str) -> pa.Array:
    """Return what a condition names of each sample."""
    if column in samples.column_names:
        return samples.column(column).combine_chunks()
    if column in _FIRST:
        return _first(samples.column(_FIRST[column]).combine_chunks())
    if column == SPLIT:
        return pa.repeat(pa.scalar(split), samples.num_rows)
    if column == "host":
        return pa.array([host_of(url) for url in samples.column("url").to_pylist()], pa.string())
    if column == "text_length":
        return pc.utf8_length(samples.column("caption").combine_chunks())
    sides = [samples.column(name).combine_chunks().cast(pa.float64()) for name in ("width", "height")]
    return pc.divide(pc.max_element_wise(*sides), pc.max_element_wise(pc.min_element_wise(*sides), 1.0))


def _first(lists: pa.Array) -> pa.Array:
    """Return the first item of each list; null of an empty one."""
    starts = lists.offsets[: len(lists)]
    there = pc.greater(pc.list_value_length(lists), 0)
    return lists.values.take(pc.if_else(there, starts, pa.scalar(None, starts.type)))


def _listed(value: str) -> list[str]:
    text = value[1:-1] if value[:1] + value[-1:] in ("()", "[]") else value
    return [part.strip() for part in text.split(",") if part.strip()]


def _scalar(text: str, kind: pa.DataType) -> pa.Scalar:
    """Return a value of a column's type."""
    plain = text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text
    if pa.types.is_string(kind):
        return pa.scalar(plain, kind)
    if pa.types.is_boolean(kind):
        if plain.lower() not in ("true", "false"):
            raise ValueError(plain)
        return pa.scalar(plain.lower() == "true", kind)
    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        raise ValueError("only `is null` and `is not null` can be asked of it")
    if pa.types.is_integer(kind) and "." in plain:
        return pa.scalar(float(plain))
    return pa.scalar(plain).cast(kind)
