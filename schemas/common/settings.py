"""Read typed settings from YAML with `a.b=value` overrides; errors are one sentence.

A recipe (`wit`) and a training configuration (`wit-train`) are both a pydantic model read from one YAML file.
"""

import difflib
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

from openwit.schemas.common.errors import RecipeError, one_line
from openwit.schemas.common.matching_paths import refuse_special
from openwit.schemas.common.setting_messages import setting_message
from openwit.schemas.common.storage_faults import shown


class Settings(pydantic.BaseModel):
    """Base of every settings model: immutable; an unknown key, and a number that is not finite, is an error."""

    model_config = pydantic.ConfigDict(
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
        allow_inf_nan=False,  # every comparison with .nan is false: a share of .nan would switch its check off
    )

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _no_booleans_as_numbers(cls, raw: Any, info: pydantic.ValidationInfo) -> Any:
        """Refuse true and false where a number is wanted: Python takes them for 1 and 0."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        for value, wanted in _items(raw, annotation):
            if isinstance(value, bool) and not _takes(wanted, bool) and (_takes(wanted, int) or _takes(wanted, float)):
                raise ValueError(f"must be a number, not {str(value).lower()}")
        return raw

    @pydantic.model_validator(mode="before")
    @classmethod
    def _lists_of_one(cls, raw: Any) -> Any:
        """Accept a single value where a list is wanted: `--set candidates.inputs=pairs.csv`."""
        if not isinstance(raw, dict):
            return raw
        single = {
            key: [value]
            for key, value in raw.items()
            if isinstance(value, str | Path)
            and key in cls.model_fields
            and _takes_list(cls.model_fields[key].annotation)
        }
        return {**raw, **single} if single else raw


def _items(raw: Any, annotation: Any) -> list[tuple[Any, Any]]:
    """Return a value, or the items of a list, each with the annotation that it should fit."""
    if not isinstance(raw, list):
        return [(raw, annotation)]
    arguments = [part for option in _options(annotation) for part in typing.get_args(option)[:1]]
    return [(value, arguments[0]) for value in raw] if arguments else []


def _options(annotation: Any) -> list[Any]:
    """Return the alternatives of a union; an annotation that is none is its only one."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _options(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return [option for argument in arguments for option in _options(argument)]
    return [annotation]


def _takes(annotation: Any, kind: type) -> bool:
    """Return whether values of a type fit an annotation."""
    for option in _options(annotation):
        if typing.get_origin(option) is typing.Literal:
            if any(isinstance(value, kind) for value in typing.get_args(option)):
                return True
        elif option in (object, Any) or (isinstance(option, type) and issubclass(option, kind)):
            return True
    return False


def _takes_list(annotation: Any) -> bool:
    """Return whether a type is a list of any length, or null or one, and no text."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _takes_list(arguments[0])
    if origin in (typing.Union, types.UnionType):
        others = [argument for argument in arguments if argument is not types.NoneType]
        return bool(others) and all(map(_takes_list, others))
    return origin is list or (origin is tuple and arguments[-1] is Ellipsis)


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key that is given twice is an error: plain YAML readers take the last one silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key {key.value!r} is given twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


SettingsT = TypeVar("SettingsT", bound=Settings)
_MOST_BYTES = 4 << 20
# Values after every alias is written out: a few lines of aliases of aliases can stand for billions.
_MOST_VALUES = 2_000_000


def load_settings(path: Path, model: type[SettingsT], overrides: Sequence[str] = ()) -> SettingsT:
    """Read a YAML file into a settings model.

    Args:
        path: the YAML file.
        model: the settings class.
        overrides: `a.b=value` strings; the value is parsed as YAML, such as `3`, `true` or `[a, b]`.

    Raises:
        RecipeError: the file is missing or no YAML, or a key or value is wrong; names it and what would be right.
    """
    raw = read_yaml(path)
    for override in overrides:
        apply_override(raw, override)
    return parse_settings(raw, model, str(path))


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping; an empty file holds an empty one.

    Raises:
        DataError: it is a named pipe or the like, and none of the shell.
        RecipeError: the file is missing, cannot be read, is not YAML, or holds something else.
    """
    refuse_special(path, shown(path), once=True)
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        raise RecipeError(f"{path} does not exist") from None
    except OSError as error:
        raise RecipeError(f"{shown(path)} cannot be read: {error.strerror or error}") from error
    raw = parse_yaml(data, str(path))
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise RecipeError(f"{path} must hold settings (key: value), but holds a {type(raw).__name__}")
    return raw


def parse_yaml(data: bytes | str, where: str) -> Any:
    """Read YAML within limits of size, depth and aliases; a key that is given twice is an error.

    Args:
        data: UTF-8, or UTF-16 with a byte order mark.
        where: file or setting, for messages.

    Raises:
        RecipeError: it is not YAML, or beyond the limits.
    """
    if len(data) > _MOST_BYTES:
        raise RecipeError(f"{where} is larger than {_MOST_BYTES >> 20} MiB: that is no recipe or configuration")
    try:
        loader = _UniqueKeys(data)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if _values(node, {}) > _MOST_VALUES:
                raise RecipeError(f"{where} stands for more than {_MOST_VALUES:,} values: it has too many aliases")
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except RecipeError:
        raise
    except RecursionError:
        raise RecipeError(f"{where} is nested too deeply, or within itself") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{where} {_what_is_wrong(error, is_file=isinstance(data, bytes))}") from error
    except (ValueError, OverflowError) as error:  # a date or number that there is none of
        raise RecipeError(f"{where} is not valid YAML: {one_line(error)}") from error


def _values(node: yaml.Node, known: dict[int, int]) -> int:
    """Count the values that a node stands for, with its aliases written out."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        parts = node.value if isinstance(node, yaml.SequenceNode) else [part for pair in node.value for part in pair]
        known[id(node)] = 1 + sum(_values(part, known) for part in parts)
    return known[id(node)]


def parse_settings(raw: dict[str, Any], model: type[SettingsT], where: str, *, prefix: str = "") -> SettingsT:
    """Validate plain data as settings; errors name `where`, the key and the remedy.

    Args:
        raw: plain data.
        model: the settings class.
        where: file or command, for messages.
        prefix: where the settings are in it, for messages: `select` gives `key 'select.cap'`.
    """
    try:
        return model.model_validate(raw)
    except pydantic.ValidationError as error:
        raise RecipeError(f"{where}: {_explain(error, model, prefix)}") from error


def apply_override(raw: dict[str, Any], override: str, *, within: str = "") -> None:
    """Put one `a.b=value` override into plain settings data.

    Args:
        raw: the settings, changed in place.
        override: `a.b=value`.
        within: where the settings are, for messages: `select` for `select.a.b=value`.

    Raises:
        RecipeError: it has another form, or goes through a key that holds a value.
    """
    dotted, separator, value = override.partition("=")
    described = f"{within}.{override}" if within else override
    if not separator or not dotted:
        raise RecipeError(f"setting {described!r} must look like key=value")
    *parents, last = dotted.split(".")
    node = raw
    for part in parents:
        child = node.setdefault(part, {})
        if child is None:
            child = node[part] = {}
        if not isinstance(child, dict):
            raise RecipeError(f"setting {described!r}: {part!r} holds a value, not settings")
        node = child
    node[last] = parse_yaml(value, f"setting {described!r}: the value")


def _explain(error: pydantic.ValidationError, model: type[pydantic.BaseModel], prefix: str = "") -> str:
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    key = ".".join([prefix, *location] if prefix and location else location)
    if first["type"] == "extra_forbidden":
        known = _keys_at(model, location[:-1])
        return f"unknown key {key!r}; {_hint(model, location, known, prefix)}"
    if first["type"] == "missing":
        return f"key {key!r} is missing"
    message = setting_message(first)
    if not key:
        return f"{prefix}: {message}" if prefix else message
    return f"key {key!r}: {message} (got {first['input']!r})"


def _hint(model: type[pydantic.BaseModel], location: list[str], known: list[str], prefix: str) -> str:
    """Return what was meant by an unknown key: the same name elsewhere, a similar one here, or all that are here."""
    name = location[-1]
    given = [part for part in location if not part.isdecimal()]
    places = [path for path in _paths(model) if path[-1] == name and path != given]
    if places:
        nearest = max(places, key=lambda path: _shared(path, given))
        return f"did you mean {'.'.join([prefix, *nearest] if prefix else nearest)!r}?"
    close = [key for key in difflib.get_close_matches(name, known, n=2) if key != name]
    if name in known:
        others = ", ".join(key for key in known if key != name)
        return f"it goes with other settings than the ones given there (keys: {others})"
    return f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _paths(model: type[pydantic.BaseModel], depth: int = 6) -> list[list[str]]:
    """Return the path of every key of a model and of the models in it."""
    found: list[list[str]] = []
    for name, field in model.model_fields.items():
        found.append([name])
        if depth:
            inner = [path for each in _models_in(field.annotation) for path in _paths(each, depth - 1)]
            found += [[name, *path] for path in inner]
    return found


def _keys_at(model: type[pydantic.BaseModel], location: list[str]) -> list[str]:
    """Return the keys that are allowed at a location; those of all alternatives if there are several."""
    models = [model]
    for part in location:
        if not part.isdecimal():
            models = [found for each in models for found in _models_of(each, part)]
    return sorted({key for each in models for key in each.model_fields})


def _models_of(model: type[pydantic.BaseModel], part: str) -> list[type[pydantic.BaseModel]]:
    field = model.model_fields.get(part)
    return [] if field is None else _models_in(field.annotation)


def _models_in(annotation: Any) -> list[type[pydantic.BaseModel]]:
    """Return the settings models in a field's type: itself, the members of a union, or the items of a list."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated, list):
        return [found for argument in typing.get_args(annotation) for found in _models_in(argument)]
    return []


def _what_is_wrong(error: yaml.YAMLError, *, is_file: bool) -> str:
    mark = getattr(error, "problem_mark", None)
    if not is_file or mark is None or "'\\t'" not in (getattr(error, "problem", None) or ""):
        return f"is not valid YAML: {one_line(error)}"
    where = f"a tab at line {mark.line + 1}, where YAML allows only spaces"
    return f"is not a recipe or configuration, because it is not valid YAML: {where}"
