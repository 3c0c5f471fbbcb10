"""Define the exceptions for problems that the caller can fix. Each message is one sentence for a person.

::

    OpenWITError             a problem that the caller can fix; base of all below
    ├── RecipeError          a recipe, configuration, setting or flag is wrong
    │   └── PluginError      code named in a recipe fails or breaks its contract
    ├── DataError            an input, dataset or checkpoint is missing, damaged or of the wrong kind
    │   └── SchemaError      a table does not have the columns it should have
    ├── NetworkError         a server or a remote store does not respond, or refuses
    ├── StorageError         a disk is full, a folder cannot be written, or another process holds it
    ├── DeviceError          a GPU or this machine has not enough memory, or a GPU fails
    └── WorkerError          worker processes died again and again

The commands print the sentence and end with exit code 2. Any other exception is a bug in OpenWIT.
"""

import re

# What Python prints of an object without a text of its own.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+(?=>)")


class OpenWITError(ValueError):
    """A problem that the caller can fix: the message names the problem and the remedy."""


class RecipeError(OpenWITError):
    """A recipe, configuration, setting or flag is wrong."""


class PluginError(RecipeError):
    """Code named in a recipe fails or breaks its contract; the message names it."""


class DataError(OpenWITError):
    """An input, dataset or checkpoint is missing, damaged, or of the wrong kind."""


class NetworkError(OpenWITError):
    """A server or a remote store does not respond, or refuses."""


class StorageError(OpenWITError):
    """A disk is full, a folder cannot be written, or another process holds it."""


class DeviceError(OpenWITError):
    """A GPU or this machine has not enough memory for what is computed, or a GPU fails."""


class WorkerError(OpenWITError):
    """Worker processes died again and again; the message names the task."""


class SchemaError(DataError):
    """A table does not have the expected schema; the message names the table and the column."""


def one_line(error: BaseException, limit: int | None = None) -> str:
    """Return the message of an error on one line, or its type if it has none; the same in every process.

    Args:
        limit: the most characters of it.
    """
    text = _ADDRESS.sub("", " ".join(str(error).split()))
    return (text or type(error).__name__)[:limit]
