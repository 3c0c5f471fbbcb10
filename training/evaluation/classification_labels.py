"""Read the labels of images: words, numbers, lists of them, or marks per class."""

import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from openwit.schemas.common.errors import DataError

Several = tuple[int | str, ...]
"""The classes of an image that may have several, or none."""
Marks = NDArray[np.int8]
"""(classes,) 1 for each class that an image has, 0 for others, -1 where that was not judged."""
Label = int | str | Several | Marks | None


def labels_of(column: pa.ChunkedArray) -> list[Label]:
    """Return the labels of a column: lists of numbers or words name classes, lists of bool or float mark each one.

    Raises:
        DataError: a list names a class twice, or marks one by another number than 1, 0 and -1.
    """
    of_list = value_type(column.type)
    values = column.to_pylist()
    if of_list is None:
        return _numbers_of_words([_word(each) for each in values])
    if is_label(of_list):
        twice = next((each for each in values if each and len(set(each)) < len(each)), None)
        if twice is not None:
            raise DataError(
                f"lists of labels name the classes of an image, but {str(twice[:8])[:60]} has one twice: store marks "
                "of 0 and 1 per class as bool or float"
            )
        return [None if each is None or None in each else tuple(each) for each in values]
    marks = [None if each is None or None in each else _marks(np.asarray(each)) for each in values]
    wrong = next(
        (each for each, mark in zip(values, marks, strict=True) if mark is None and each and None not in each), None
    )
    if wrong is not None:
        raise DataError(f"lists of labels mark each class by 1, 0 or -1, and {str(wrong[:8])[:60]} has other numbers")
    return list(marks)


def _word(value: Any) -> int | str | None:
    """Return a label without white space around it; None of an empty one."""
    return (value.strip() or None) if isinstance(value, str) else value


def _numbers_of_words(labels: list[int | str | None]) -> list[Label]:
    """Return labels as numbers if all that are words are whole numbers, as tars have them."""
    words = [label for label in labels if isinstance(label, str)]
    if not words or not all(_is_number(word) for word in words):
        return list(labels)
    return [int(label) if isinstance(label, str) else label for label in labels]


def _is_number(text: str) -> bool:
    return text.isascii() and text.removeprefix("-").isdecimal()


def value_type(kind: pa.DataType) -> pa.DataType | None:
    """Return the type of the entries of a list; None for other types."""
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return kind.value_type if is_list else None


def is_label(kind: pa.DataType) -> bool:
    """Return whether values of a type are words or whole numbers."""
    return bool(pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _marks(values: NDArray[Any]) -> Marks | None:
    """Return marks per class; None for anything else than a row of 1, 0 and -1."""
    if values.ndim != 1 or values.dtype.kind not in "biuf" or not np.isin(values, (0, 1, -1)).all():
        return None
    return values.astype(np.int8)


def hugging_face_names(schema: pa.Schema, label: str) -> list[str] | None:
    """Return the names of a `ClassLabel`, which Hugging Face's datasets writes into the schema's metadata."""
    raw = (schema.metadata or {}).get(b"huggingface")
    node: Any = None
    try:
        node = json.loads(raw) if raw else None
    except ValueError:
        return None
    for key in ("info", "features", label):
        node = node.get(key) if isinstance(node, dict) else None
    for key in ("feature", "names"):  # `feature`: of a sequence of them
        node = node.get(key, node if key == "feature" else None) if isinstance(node, dict) else None
    return [str(name) for name in node] if isinstance(node, list) and node else None


def marks_of_npy(raw: bytes) -> Marks | None:
    """Return the marks that CLIP_benchmark writes for sets of several labels; None for any other array."""
    try:
        values = np.load(io.BytesIO(raw), allow_pickle=False)
    except (ValueError, EOFError, OSError, MemoryError):
        return None
    return _marks(values) if isinstance(values, np.ndarray) else None


def label_of(raw: bytes) -> int | str | None:
    """Return the label of a tar's member `.cls`: a number or a word; None of an empty one."""
    text = _word(raw.decode("utf-8-sig", "replace"))
    return int(text) if isinstance(text, str) and _is_number(text) else text
