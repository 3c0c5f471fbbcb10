"""Read tensors from a TorchScript archive without running its code.

OpenAI released its weights as such archives. `torch.jit.load` runs code of the archive while it loads, and
`torch.load` rejects them, so the archive is read here: a zip in which `data.pkl` holds the modules as nested
attributes, each `data/N` a storage, and `code/` the modules' source, which names a module's parameters and buffers.
Only the names below are resolved in the pickle, and the source is searched, never run.
"""

import collections
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openwit.schemas.common.errors import DataError

_CLASS = re.compile(
    r"^class (?P<name>\w+)\(Module\):\n"
    r"(?:  __parameters__ = \[(?P<parameters>[^\]]*)\]\n)?(?:  __buffers__ = \[(?P<buffers>[^\]]*)\]\n)?",
    re.MULTILINE,
)
_QUOTED = re.compile(r'"([^"]*)"')
_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class _Module:
    """An object of the archive: its attributes, and the name of its class."""

    qualified = ""
    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def is_torchscript(path: Path) -> bool:
    """Return whether a file is a TorchScript archive."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Return parameters and buffers by their dotted names, as in `torch.jit.load(path).state_dict()`.

    Raises:
        DataError: the archive is damaged, or holds something that no CLIP model has.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            pickled = next(name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl"))
            prefix = pickled.removesuffix("data.pkl")
            with archive.open(pickled) as file:
                root = _Unpickler(file, archive, prefix).load()
            return dict(_walk(root, "", _Declared(archive, prefix)))
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError, EOFError) as error:
        raise DataError(f"{path} is a TorchScript archive that cannot be read: {error}") from error
    except (StopIteration, IndexError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        raise DataError(f"{path} is a broken TorchScript archive: {error}") from error


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, archive: zipfile.ZipFile, prefix: str) -> None:
        super().__init__(file)
        self._archive = archive
        self._prefix = prefix
        self._storages: dict[str, Tensor] = {}

    def persistent_load(self, pid: Any) -> Tensor:
        """Return a storage as a tensor of one dimension."""
        _, dtype, key, _, count = pid
        if key not in self._storages:
            data = bytearray(self._archive.read(f"{self._prefix}data/{key}"))
            empty = torch.empty(0, dtype=dtype)
            self._storages[key] = torch.frombuffer(data, dtype=dtype, count=count) if count else empty
        return self._storages[key]

    def find_class(self, module: str, name: str) -> Any:
        """Resolve the few names that an archive of a model needs; reject all others."""
        if module == "__torch__" or module.startswith("__torch__."):
            return type(name, (_Module,), {"qualified": f"{module}.{name}"})
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        found = _CALLABLES.get((module, name))
        if found is None:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no weights need")
        return found


def _rebuilt(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:
    return storage.as_strided(size, stride, offset)


def _first(value: Any, *_: object) -> Any:
    return value


_CALLABLES: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _rebuilt,
    ("torch._utils", "_rebuild_parameter"): _first,
    ("collections", "OrderedDict"): collections.OrderedDict,
    **{
        ("torch.jit._pickle", name): _first
        for name in ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist", "restore_type_tag")
    },
}


class _Declared:
    """Finds the attributes of a class that are parameters or buffers, according to the archive's source."""

    def __init__(self, archive: zipfile.ZipFile, prefix: str) -> None:
        self._archive = archive
        self._prefix = prefix
        self._files: dict[str, dict[str, frozenset[str]]] = {}

    def of(self, qualified: str) -> frozenset[str]:
        """Return these names for a class, named as in the pickle."""
        folder, _, name = qualified.rpartition(".")
        path = f"{self._prefix}code/{folder.replace('.', '/')}.py"
        if path not in self._files:
            source = self._archive.read(path).decode()
            self._files[path] = {
                found["name"]: frozenset(_QUOTED.findall((found["parameters"] or "") + (found["buffers"] or "")))
                for found in _CLASS.finditer(source)
            }
        return self._files[path].get(name, frozenset())


def _walk(module: _Module, path: str, declared: _Declared) -> Iterator[tuple[str, Tensor]]:
    names = declared.of(module.qualified)
    if not isinstance(module.state, dict):
        return
    for name, value in module.state.items():
        if isinstance(value, Tensor) and name in names:
            yield path + name, value
        elif isinstance(value, _Module):
            yield from _walk(value, f"{path}{name}.", declared)
