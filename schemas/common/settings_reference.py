"""Describe settings for users: every key with its type, default and meaning, read from the settings classes."""

import difflib
import enum
import json
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic
from pydantic.fields import FieldInfo

from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.plugins import PluginSettings

_SCALARS: dict[Any, str] = {
    int: "integer",
    float: "number",
    bool: "true or false",
    str: "text",
    Path: "path",
    pydantic.ByteSize: "bytes",
    types.NoneType: "null",
    Any: "any value",
}
_LIMITS = {"ge": ">= {}", "gt": "> {}", "le": "<= {}", "lt": "< {}", "min_length": "at least {} items"}


@dataclass(frozen=True)
class SettingInfo:
    """One setting.

    Attributes:
        key: dotted, as `--set` takes it.
        type: of the value, in words.
        default: as YAML; None if the setting is required.
        meaning: what it does, with units.
        choice: the alternative of the parent to which it belongs, such as the name of an objective; else empty.
    """

    key: str
    type: str
    default: str | None
    meaning: str
    choice: str = ""


def settings_reference(model: type[pydantic.BaseModel], prefix: str = "") -> list[SettingInfo]:
    """List every setting of a settings class, those of nested classes included, in the order of declaration.

    Args:
        model: the settings class.
        prefix: prepended to the keys: `select` gives `select.cap`.
    """
    return list(_settings_of(model, prefix, "", ()))


def _settings_of(
    model: type[pydantic.BaseModel], prefix: str, choice: str, outer: tuple[type, ...]
) -> Iterator[SettingInfo]:
    for name, field in model.model_fields.items():
        key = f"{prefix}.{name}" if prefix else name
        nested = [found for found in sections_in(field.annotation) if found not in (*outer, model)]
        several = len(nested) > 1
        if several or not nested or not _is_plain_section(field):
            yield SettingInfo(key, type_words(field), default_text(field), field.description or "", choice)
        listed = "[]" if _is_list(field.annotation) else ""
        for section in nested:
            label = _choice_label(section) if several else choice
            yield from _settings_of(section, key + listed, label, (*outer, model))


def sections_in(annotation: Any) -> list[type[pydantic.BaseModel]]:
    """Return the settings classes in a type: itself, members of a union, items of a list or values of a mapping.

    Classes that are written as one value, such as a duration, are values and not listed.
    """
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return [] if _written_as(annotation) else [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated, list, tuple, dict):
        return [found for argument in typing.get_args(annotation) for found in sections_in(argument)]
    return []


def type_words(field: FieldInfo) -> str:
    """Return the type of a setting in words, with its limits."""
    limits = [
        text.format(_plain_number(getattr(item, name)))
        for item in field.metadata
        for name, text in _LIMITS.items()
        if getattr(item, name, None) is not None
    ]
    return ", ".join([_words(field.annotation), *limits])


def default_text(field: FieldInfo) -> str | None:
    """Return the default of a setting as YAML in one line; None if the setting is required."""
    if field.is_required():
        return None
    default = field.get_default(call_default_factory=True, validated_data={})
    return json.dumps(_plain(default), ensure_ascii=False)


def _is_plain_section(field: FieldInfo) -> bool:
    """Return whether a field is always one section: it needs no line of its own beside its keys."""
    annotation = field.annotation
    return isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel)


def _is_list(annotation: Any) -> bool:
    if typing.get_origin(annotation) in (list, tuple):
        return True
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        return any(_is_list(argument) for argument in typing.get_args(annotation))
    return False


def _choice_label(section: type[pydantic.BaseModel]) -> str:
    """Return how a configuration chooses one of several sections: by the constant that it has, or by a dotted name."""
    for name in ("name", "kind"):
        field = section.model_fields.get(name)
        if field is not None and typing.get_origin(field.annotation) is typing.Literal:
            return f"{name}: {typing.get_args(field.annotation)[0]}"
    return "your own, by dotted name" if issubclass(section, PluginSettings) else "built-in"


def _written_as(model: type[pydantic.BaseModel]) -> str:
    """Return how a class is written as one value; empty for a class that is a section of keys."""
    return str(model.__dict__.get("written_as", ""))


def _words(annotation: Any) -> str:
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _words(arguments[0])
    if origin is typing.Literal:
        return ("one of " if len(arguments) > 1 else "") + ", ".join(str(value) for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_words(argument) for argument in arguments))
    if origin in (list, tuple):
        items = [_words(argument) for argument in arguments if argument is not Ellipsis]
        return (
            f"list of {' or '.join(dict.fromkeys(items))}"
            if origin is list or Ellipsis in arguments
            else (f"list of {len(items)}: {', '.join(items)}")
        )
    if origin is dict:
        return f"mapping of {_words(arguments[0])} to {_words(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return "one of " + ", ".join(str(member.value) for member in annotation)
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return _written_as(annotation) or "settings"
    return "text"


def _plain(value: Any) -> Any:
    if isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, enum.Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value


def _plain_number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def find_settings(settings: Sequence[SettingInfo], wanted: str | None) -> list[SettingInfo]:
    """Return the settings below a key, or all whose key or meaning contains a word.

    Args:
        settings: all settings.
        wanted: a key such as `select` or `fetch.image`, a word, or None for all.

    Raises:
        RecipeError: none is found; the message suggests similar keys.
    """
    if wanted is None:
        return list(settings)
    below = [found for found in settings if f"{found.key.replace('[]', '')}.".startswith(f"{wanted.rstrip('.')}.")]
    if below:
        return below
    word = wanted.casefold()
    holding = [found for found in settings if word in found.key.casefold() or word in found.meaning.casefold()]
    if holding:
        return holding
    keys = {part for found in settings for part in (found.key, found.key.rpartition(".")[2])}
    close = difflib.get_close_matches(wanted, sorted(keys), n=3)
    hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise RecipeError(f"no setting has {wanted!r} in its key or meaning{hint}")


def listing(settings: Sequence[SettingInfo], width: int) -> str:
    """Return settings as text: a line with key, type and default, then the meaning, indented and wrapped.

    Args:
        settings: in the order of the text.
        width: of a line, in characters.
    """
    lines = []
    for setting in settings:
        chosen = f"  [{setting.choice}]" if setting.choice else ""
        default = "required" if setting.default is None else f"default {setting.default}"
        head = f"{setting.key}{chosen}  ({setting.type}; {default})"
        lines += textwrap.wrap(head, width, subsequent_indent="    ", break_long_words=False)
        lines += textwrap.wrap(setting.meaning, width, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)
