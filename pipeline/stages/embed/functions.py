"""Load and call the functions that embed: a batch in, an array of vectors out, one row for each.

A function `(batch, **settings)`, or a class whose settings go to `__init__` and whose instances are called with the
batch; a class is made once per worker, so it is the place for a model. A row of NaN says that there is no vector for
this item. Either may have an attribute `identity`, a function of the same settings that returns JSON data: what else
decides the vectors, such as the checksum of a model, so that a build notices when it changes.
"""

import inspect
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from openwit.schemas.common.errors import OpenWITError, PluginError
from openwit.schemas.common.plugins import PluginSettings, load_callable, load_object, one_line


class EmbedFunction:
    """A function that embeds.

    Args:
        plugin: its dotted name and settings.
        key: the key of the recipe that names it, for messages.

    Raises:
        RecipeError: it cannot be loaded, or cannot be called with these settings.
    """

    def __init__(self, plugin: PluginSettings, *, key: str) -> None:
        self._key, self._plugin = key, plugin
        is_class = inspect.isclass(load_object(plugin.name, key=key))
        self._found = load_callable(plugin, key=key, positional=0 if is_class else 1)
        self._call: Callable[[Sequence[Any]], Any] | None = None

    def identity(self) -> Any:
        """Return what decides the vectors besides name and settings, as JSON data; None if it is not defined.

        Raises:
            PluginError: the function's own `identity` fails or returns something else.
        """
        ask = getattr(self._found, "identity", None)
        if ask is None:
            return None
        try:
            return json.loads(json.dumps(ask(**self._plugin.settings), sort_keys=True))
        except OpenWITError:
            raise
        except Exception as error:
            raise self._error(f"failed in identity: {one_line(error)}") from error

    def setup(self) -> None:
        """Make the instance of a class, once per worker."""
        if self._call is not None:
            return
        if not inspect.isclass(self._found):
            self._call = partial(self._found, **self._plugin.settings)
            return
        made: Any = self._found
        try:
            self._call = made(**self._plugin.settings)
        except OpenWITError:
            raise
        except Exception as error:
            raise self._error(f"cannot be built: {one_line(error)}") from error

    def vectors(self, batch: Sequence[Any], about: str) -> np.ndarray:
        """Return (len(batch), D) float32; a row of NaN is an item without a vector.

        Args:
            batch: encoded images, or texts.
            about: names the batch in a message.

        Raises:
            PluginError: the function fails, or returns no such array.
        """
        self.setup()
        assert self._call is not None
        try:
            answer = self._call(batch)
        except OpenWITError:
            raise
        except Exception as error:
            raise self._error(f"failed on {about}: {one_line(error)}") from error
        try:
            found = np.asarray(answer, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise self._error(f"returned no array of numbers for {about}: {one_line(error)}") from error
        if found.ndim != 2 or len(found) != len(batch) or not found.shape[1]:
            raise self._error(
                f"returned an array of shape {found.shape} for {about}: one row of numbers is wanted for each of "
                f"{len(batch)}"
            )
        missing = np.isnan(found).all(axis=1)
        if not np.isfinite(found[~missing]).all():
            raise self._error(f"returned a vector of {about} with an entry that is no finite number")
        return found

    def _error(self, what: str) -> PluginError:
        return PluginError(f"{self._key}: {self._plugin.name!r} {what}")
