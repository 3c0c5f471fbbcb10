"""Load, call and check filters that a recipe names by dotted name, in one way for texts and images.

A filter is a function `(subject, context, **settings)`, or a class whose settings go to `__init__` and whose instances
are called with `(subject, context)`. It returns True to keep the subject, and False or `(False, reason)` to drop it.
A class may have a method `setup()`, called once per worker before the first subject.
"""

import inspect
import re
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from openwit.pipeline.common.reasons import is_reason_name
from openwit.schemas.common.errors import OpenWITError, PluginError
from openwit.schemas.common.plugins import PluginSettings, check_call, load_callable, load_object, one_line

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class CustomFilter:
    """One filter of the user's.

    Args:
        plugin: its dotted name and settings.
        key: the key of the recipe that names it, for messages.
        taken: reasons that already mean something else at its stage.

    Raises:
        RecipeError: it cannot be loaded, cannot be called with these arguments, or its name cannot be a reason.
    """

    def __init__(self, plugin: PluginSettings, *, key: str, taken: Collection[str] = ()) -> None:
        self.name = plugin.name
        self._key = key
        self._taken = frozenset(taken)
        found = load_object(plugin.name, key=key)
        if inspect.isclass(found):
            made = load_callable(plugin, key=key)
            try:
                found = made(**plugin.settings)
            except OpenWITError:
                raise
            except Exception as error:
                raise self._error(f"cannot be built: {one_line(error)}") from error
            check_call(found, {}, name=plugin.name, key=key, positional=2)
            self._filter: Any = found
        else:
            self._filter = partial(load_callable(plugin, key=key, positional=2), **plugin.settings)
        self._setup = getattr(found, "setup", None)
        self.reason = self._checked(_snake_case(re.split(r"[.:]", plugin.name)[-1]))

    def setup(self) -> None:
        """Prepare the filter in a worker, before its first call."""
        if self._setup is None:
            return
        try:
            self._setup()
        except Exception as error:
            raise self._error(f"failed in setup: {one_line(error)}") from error

    def drop_reason(self, subject: Any, context: Any, about: str) -> str | None:
        """Return why the filter drops a subject, or None to keep it.

        Args:
            subject: what it decides on.
            context: what else it is given.
            about: names the subject in a message.

        Raises:
            PluginError: the filter raises, or returns neither True, False nor (False, reason).
        """
        try:
            answer = self._filter(subject, context)
        except Exception as error:
            raise self._error(f"failed on {about}: {one_line(error)}") from error
        reason: Any = self.reason
        if isinstance(answer, tuple) and len(answer) == 2:
            answer, reason = answer
        if not _is_bool(answer) or not isinstance(reason, str):
            raise self._error(f"must return True, False or (False, reason), but returned {answer!r:.80} for {about}")
        if answer:
            return None
        return reason if reason == self.reason else self._checked(reason)

    def _checked(self, reason: str) -> str:
        if not is_reason_name(reason):
            raise self._error(f"gives the reason {reason!r:.80}; a reason has only a-z, 0-9 and underscores")
        if reason in self._taken:
            raise self._error(f"gives the reason {reason!r}, which has another meaning already; choose another name")
        return str(reason)

    def _error(self, what: str) -> PluginError:
        return PluginError(f"{self._key}: {self.name!r} {what}")


def custom_filters(plugins: Sequence[PluginSettings], *, key: str, taken: Collection[str] = ()) -> list[CustomFilter]:
    """Load filters in the order of the recipe; see `CustomFilter` for the arguments and errors."""
    return [CustomFilter(plugin, key=key, taken=taken) for plugin in plugins]


def _is_bool(answer: object) -> bool:
    """Return whether a value is a bool of Python or numpy."""
    kind = type(answer)
    return kind is bool or (kind.__module__ == "numpy" and kind.__name__ in ("bool", "bool_"))


def _snake_case(name: str) -> str:
    return _WORD_START.sub("_", name).lower()
