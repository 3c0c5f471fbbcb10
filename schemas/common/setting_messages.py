"""Word pydantic's errors for users: what the value must be, without names of Python classes."""

from collections.abc import Callable, Mapping
from typing import Any

_PREFIX = "Value error, "
_SECTION = "must hold settings (key: value)"
_TEXT: dict[str, str] = {
    "model_type": _SECTION,
    "model_attributes_type": _SECTION,
    "dataclass_type": _SECTION,
    "dict_type": "must hold key: value",
    "mapping_type": "must hold key: value",
    "list_type": "must be a list: [a, b]",
    "tuple_type": "must be a list: [a, b]",
    "set_type": "must be a list: [a, b]",
    "iterable_type": "must be a list: [a, b]",
    "string_type": "must be text",
    "path_type": "must be a path",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be an integer",
    "int_parsing": "must be an integer",
    "int_from_float": "must be an integer",
    "int_parsing_size": "is too large",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "byte_size": "must be a number of bytes, such as 500MB or 1GiB",
    "byte_size_unit": "must be a number of bytes, such as 500MB or 1GiB",
    "none_required": "must be null",
}
_WITH_CONTEXT: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than_equal": lambda limits: f"must be at least {limits['ge']}",
    "greater_than": lambda limits: f"must be above {limits['gt']}",
    "less_than_equal": lambda limits: f"must be at most {limits['le']}",
    "less_than": lambda limits: f"must be below {limits['lt']}",
    "literal_error": lambda limits: f"must be {limits['expected']}",
    "enum": lambda limits: f"must be {limits['expected']}",
    "string_pattern_mismatch": lambda limits: f"must match {limits['pattern']}",
    "too_short": lambda limits: f"must hold at least {limits['min_length']} item(s)",
    "too_long": lambda limits: f"must hold at most {limits['max_length']} item(s)",
    "string_too_short": lambda limits: f"must hold at least {limits['min_length']} character(s)",
    "string_too_long": lambda limits: f"must hold at most {limits['max_length']} character(s)",
}


def setting_message(error: Mapping[str, Any]) -> str:
    """Return what is wrong with a value, as a phrase that follows the name of the key.

    Args:
        error: one of `pydantic.ValidationError.errors()`.
    """
    kind = str(error["type"])
    if kind in _TEXT:
        return _TEXT[kind]
    if kind in _WITH_CONTEXT:
        return _WITH_CONTEXT[kind](error["ctx"])
    message = str(error["msg"]).removeprefix(_PREFIX)
    return message[:1].lower() + message[1:]
