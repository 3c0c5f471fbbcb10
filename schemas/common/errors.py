"""The exceptions that OpenWIT raises for what a caller can put right. Each message is one sentence for a person.

::

    OpenWITError             what the caller can put right; everything below
    ├── RecipeError          a recipe, configuration, setting or flag is wrong
    │   └── PluginError      code that a recipe names fails, or does not do what its kind must do
    ├── DataError            an input, dataset or checkpoint is missing, damaged or not what it should be
    │   └── SchemaError      a table does not have the columns it should have
    ├── NetworkError         a server or a remote store does not answer, or refuses
    └── StorageError         a disk is full, a folder cannot be written, or another process holds it

The commands print the sentence and end with exit code 2. Everything else that is raised is a fault of OpenWIT.
"""


class OpenWITError(ValueError):
    """What the caller can put right: the message says what is wrong and how."""


class RecipeError(OpenWITError):
    """A recipe, configuration, setting or flag is wrong."""


class PluginError(RecipeError):
    """Code that a recipe names fails, or does not do what its kind must do; the message names it."""


class DataError(OpenWITError):
    """An input, dataset or checkpoint is missing, damaged, or not what it should be."""


class NetworkError(OpenWITError):
    """A server or a remote store does not answer, or refuses."""


class StorageError(OpenWITError):
    """A disk is full, a folder cannot be written, or another process holds it."""


class SchemaError(DataError):
    """A table does not have the schema its stage promised; the message names the table and the column."""
