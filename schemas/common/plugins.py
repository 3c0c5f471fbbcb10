"""Load your own code by dotted name: the one way in which a recipe or configuration names a function or class.

A name is `package.module.attribute` or `package.module:attribute`; the module must be importable, so its folder must
be on `PYTHONPATH` or its package installed. Worker processes load the same name again: nothing is pickled but the name
and its settings.

The name and its settings are part of a stage's settings, so a build notices when either changes. The source code
behind the name is not tracked: after editing a plug-in, build in a new `--workdir`, or remove the folders of its stage
and of the stages after it.
"""

import importlib
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pydantic
import pydantic.json_schema
from pydantic import Field
from pydantic_core import CoreSchema

from openwit.schemas.common import errors
from openwit.schemas.common.errors import RecipeError


class PluginSettings(pydantic.BaseModel):
    """A function or class by dotted name, with its own settings.

    In YAML either only the name, `mypkg.no_memes`, or a mapping whose other keys are passed to it as keyword
    arguments: `{name: mypkg.min_words, words: 3}`.
    """

    model_config = pydantic.ConfigDict(extra="allow", frozen=True)

    written_as: ClassVar[str] = "dotted name, or mapping with name and settings"

    name: str = Field(description="dotted name: package.module.attribute or package.module:attribute")

    @pydantic.model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @pydantic.model_validator(mode="after")
    def _finite(self) -> "PluginSettings":
        for key, value in (self.model_extra or {}).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{key} must be a finite number")
        return self

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: pydantic.GetJsonSchemaHandler
    ) -> pydantic.json_schema.JsonSchemaValue:
        """Return the JSON Schema: a string is allowed in place of the mapping."""
        return {"anyOf": [{"type": "string"}, handler(schema)]}

    @property
    def settings(self) -> dict[str, Any]:
        """Return the keyword arguments for the object: every key but `name`."""
        return dict(self.model_extra or {})


def load_object(name: str, *, key: str = "") -> Any:
    """Import the object of a dotted name.

    Args:
        name: `package.module.attribute` or `package.module:attribute`; attributes may be nested
            (`module:Class.method`).
        key: the key of the recipe or configuration that names it, for the message.

    Raises:
        RecipeError: the name is malformed, its module cannot be imported (missing, or it raises), or has no such
            attribute.
    """
    where = f"{key}: " if key else ""
    module_name, separator, attribute = name.partition(":")
    if not separator:
        module_name, _, attribute = name.rpartition(".")
    parts = [*module_name.split("."), *attribute.split(".")]
    if not all(part.isidentifier() for part in parts):
        raise RecipeError(f"{where}{name!r} is not a dotted name such as mypkg.module.function")
    found = _import(module_name, name, where)
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise RecipeError(f"{where}{name!r}: module {module_name!r} has no attribute {attribute!r}") from None
    return found


def load_callable(plugin: PluginSettings, *, key: str = "", positional: int = 0) -> Callable[..., Any]:
    """Import a function or class and check that it can be called as it will be.

    Args:
        plugin: its name and settings.
        key: the key of the recipe or configuration that names it, for the message.
        positional: number of positional arguments that it will get, besides its settings as keyword arguments.

    Raises:
        RecipeError: it cannot be loaded, is not callable, or does not take these arguments.
    """
    found = load_object(plugin.name, key=key)
    check_call(found, plugin.settings, name=plugin.name, key=key, positional=positional)
    return found  # type: ignore[no-any-return]


def check_call(
    function: object, settings: Mapping[str, Any], *, name: str, key: str = "", positional: int = 0
) -> None:
    """Check that an object can be called with some positional arguments and settings as keyword arguments.

    Raises:
        RecipeError: it is not callable, or does not take these arguments; the message names it and what is wrong.
    """
    where = f"{key}: " if key else ""
    if not callable(function):
        raise RecipeError(f"{where}{name!r} is a {type(function).__name__}, not a function or class")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some callables written in C have none
        return
    try:
        signature.bind(*[None] * positional, **settings)
    except TypeError as error:
        given = ", ".join([f"{positional} positional argument{'' if positional == 1 else 's'}", *settings])
        raise RecipeError(f"{where}{name!r} cannot be called with {given}: {error}") from None


def one_line(error: BaseException) -> str:
    """Return an exception as part of a sentence: type and message, white space collapsed, at most 200 characters."""
    text, name = errors.one_line(error), type(error).__name__
    return text if text == name else f"{name}: {text}"[:200]


def _import(module_name: str, name: str, where: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        hint = "is its folder on PYTHONPATH, or its package installed?"
        raise RecipeError(f"{where}{name!r}: there is no module {error.name!r}; {hint}") from error
    except Exception as error:
        raise RecipeError(f"{where}{name!r}: module {module_name!r} cannot be imported: {one_line(error)}") from error
