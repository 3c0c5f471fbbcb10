"""Write arrays to a checked file, and map them from it, so that the processes of a machine share their memory."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import xxhash

from openwit.schemas.common.atomic import atomic_path
from openwit.schemas.common.storage.cache import cached

_MAGIC = b"WITMATCH"
_ALIGNMENT = 64


class _Header(msgspec.Struct, frozen=True):
    """Describe the file in its first line. arrays: (type, shape, where it begins in the body)."""

    facts: dict[str, str | int]
    digest: str
    arrays: list[tuple[str, list[int], int]]


class ArrayFile(NamedTuple):
    """What a file holds: arrays, read-only, and facts about them."""

    facts: Mapping[str, str | int]
    arrays: list[np.ndarray]


def save_arrays(path: Path, arrays: Sequence[np.ndarray], facts: Mapping[str, str | int]) -> None:
    """Write arrays, whole or not at all."""
    body, listed, at = [], [], 0
    for array in arrays:
        listed.append((array.dtype.str, list(array.shape), at))
        body += [array.tobytes(), bytes(-array.nbytes % _ALIGNMENT)]
        at += array.nbytes + len(body[-1])
    digest = xxhash.xxh3_128()
    for piece in body:
        digest.update(piece)
    head = msgspec.json.encode(_Header(dict(facts), digest.hexdigest(), listed))
    head += b" " * (-(len(_MAGIC) + 8 + len(head)) % _ALIGNMENT)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(_MAGIC + len(head).to_bytes(8, "little") + head)
        file.writelines(body)


def load_arrays(path: Path) -> ArrayFile | None:
    """Map a file, of a store through its copy on this machine; None if it is missing or damaged."""
    try:
        mapped = np.memmap(cached(path), np.uint8, "r").view(np.ndarray)
        start = len(_MAGIC) + 8
        if mapped[: len(_MAGIC)].tobytes() != _MAGIC:
            return None
        length = int.from_bytes(mapped[len(_MAGIC) : start].tobytes(), "little")
        header = msgspec.json.decode(mapped[start : start + length].tobytes(), type=_Header)
        body = mapped[start + length :]
        if xxhash.xxh3_128_hexdigest(body.data) != header.digest:
            return None
        arrays = [
            body[at : at + int(np.prod(shape)) * np.dtype(kind).itemsize].view(kind).reshape(shape)
            for kind, shape, at in header.arrays
        ]
    except (OSError, ValueError, TypeError, msgspec.DecodeError):
        return None
    return ArrayFile(header.facts, [read_only(array) for array in arrays])


def read_only(array: np.ndarray) -> np.ndarray:
    """Return an array locked: the compiled functions would be compiled again for a writable one."""
    array.flags.writeable = False
    return array
