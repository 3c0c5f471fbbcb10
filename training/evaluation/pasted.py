"""Read lists of texts that people paste from code: lines of a Python or JSON list, templates as lambdas, dicts.

A list is read as one where the whole file parses as one; otherwise the file holds one text per line. A line of code
among plain lines is an error that names it, so that no quote or comma becomes part of a text.
"""

import ast
import json
import os
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from openwit.schemas.common.errors import DataError
from openwit.schemas.common.text_files import read_text

_MAX_CHARACTERS = 4 << 20
_QUOTED = re.compile(r"""[rRbBuUfF]{0,2}(["']).*\1\s*,?\Z""")
_CODE = re.compile(r"""(?:\w+\s*=\s*)?[\[({]\Z|[\])}],?\Z|lambda\b|[rRbBuUfF]{0,2}(["']).*\1\s*,\Z""")


class Line(NamedTuple):
    """A text of a list, and the number of its line, from 1."""

    number: int
    text: str


TEXTS_BY_PLACE = "the position of a text is its number: fill the gap, or remove it"
"""Why there may be no gap."""


def read_lines(path: Path, missing: str = "no file", *, gaps: bool = True) -> Sequence[Line]:
    """Return the texts of a file: one per line, or the entries of a list pasted from code; stripped, none empty.

    Args:
        path: the file.
        missing: the beginning of the message that it does not exist.
        gaps: whether empty texts are passed over; otherwise only those after the last text are.

    Raises:
        DataError: it does not exist, mixes code and plain lines, or has a gap.
    """
    if not os.path.exists(path) or path.is_dir():
        raise DataError(f"{path} is {missing}")
    text = read_text(path, once=True)
    found = _as_json(text, path) or _as_python(text, path) or _as_lines(text, path, gaps=gaps)
    if not gaps and (gap := next((number for number, each in found if not each.strip()), None)) is not None:
        raise DataError(f"{path}, line {gap} holds an empty text, and {TEXTS_BY_PLACE}")
    return [Line(number, line) for number, each in found if (line := each.strip())]


def _as_json(text: str, path: Path) -> list[Line]:
    if not text.lstrip().startswith(("[", "{")):
        return []
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return []
    if isinstance(value, dict):
        if not value:
            return []  # the shortest template
        value = _of_mapping(value, path)
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        found, position = [], 0
        for each in value:
            position = max(position, text.find(json.dumps(each, ensure_ascii=False), position))
            found.append(Line(text.count("\n", 0, position) + 1, each))
        return found
    raise DataError(f"{path} is JSON, but not a list of texts: give a list of strings, or one text per line")


def _of_mapping(value: dict[str, object], path: Path) -> object:
    """Return the list in a mapping: texts by number, or the only list by name."""
    if value and all(key.isdecimal() and isinstance(each, str) for key, each in value.items()):
        return _numbered({int(key): each for key, each in value.items()}, path)
    if len(value) != 1:
        names = ", ".join(list(value)[:5])
        raise DataError(f"{path} holds {len(value)} lists by name ({names}): leave one of them")
    return next(iter(value.values()))


def _numbered(by_number: dict[int, object], path: Path) -> list[object]:
    numbers = sorted(by_number)
    if numbers != list(range(len(numbers))):
        raise DataError(
            f"{path} numbers its texts, but not from 0 without gaps (first {numbers[0]}, last {numbers[-1]})"
        )
    return [by_number[number] for number in numbers]


def _as_python(text: str, path: Path) -> list[Line]:
    if len(text) > _MAX_CHARACTERS:
        return []
    node = _parsed(text)
    if node is None:
        return []
    if isinstance(node, ast.Dict):
        keys = [key.value if isinstance(key, ast.Constant) else None for key in node.keys]
        if not keys or not all(isinstance(key, int) for key in keys):
            return []
        by_number = {key: each for key, each in zip(keys, node.values, strict=True) if isinstance(key, int)}
        elements: list[object] = _numbered(dict(by_number), path)
    else:
        elements = list(node.elts)
    found = []
    for element in elements:
        assert isinstance(element, ast.expr)
        value = text_of_node(element)
        if value is None:
            return []
        if element.end_lineno != element.lineno and not isinstance(element, ast.Lambda):
            return []  # quoted lines without commas, which Python would join
        found.append(Line(element.lineno, value))
    return found


def _parsed(text: str) -> ast.List | ast.Tuple | ast.Dict | None:
    """Return the list that the text is, assigns to a name, or holds the lines of."""
    text = textwrap.dedent(text).replace("\r\n", "\n")
    for source in (text, f"[{text}\n]"):
        try:
            module = ast.parse(source)
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            continue
        if len(module.body) != 1 or not isinstance(module.body[0], (ast.Assign, ast.Expr)):
            continue
        node = module.body[0].value
        if isinstance(node, (ast.List, ast.Tuple, ast.Dict)):
            return node
    return None


def text_of_node(node: ast.expr) -> str | None:
    """Return the text of a string, or the template of an f-string or a lambda of one; None for other code."""
    if isinstance(node, ast.Lambda):
        names = [argument.arg for argument in node.args.args]
        return text_of_node(node.body) if len(names) == 1 and _placeholders(node.body) <= set(names) else None
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if not isinstance(node, ast.JoinedStr):
        return None
    parts = []
    for part in node.values:
        if isinstance(part, ast.Constant):
            parts.append(str(part.value))
        elif isinstance(part, ast.FormattedValue) and isinstance(part.value, ast.Name):
            parts.append(f"{{{part.value.id}}}")
        else:
            return None
    return "".join(parts)


def _placeholders(node: ast.expr) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def _as_lines(text: str, path: Path, *, gaps: bool) -> list[Line]:
    # Not splitlines(), which also splits at characters that may occur in a name.
    stripped = [Line(number, line.strip()) for number, line in enumerate(text.split("\n"), start=1)]
    lines = [line for line in stripped if line.text]
    if not gaps and lines:
        gap = next((line.number for line in stripped[: lines[-1].number] if not line.text), None)
        if gap is not None:
            raise DataError(f"{path}, line {gap} is empty, and {TEXTS_BY_PLACE}")
    if len(lines) > 1 and all(_QUOTED.match(line.text) for line in lines):
        return [Line(line.number, _unquoted(line, path)) for line in lines]
    for line in lines:
        if _CODE.match(line.text):
            raise DataError(
                f"{path}, line {line.number}: {line.text[:60]!r} looks like code, and other lines do not: write one "
                "text per line, without quotes and commas"
            )
    return lines


def _unquoted(line: Line, path: Path) -> str:
    try:
        value = ast.literal_eval(re.sub(r"\A[rRbBuUfF]{1,2}(?=[\"'])", "", line.text.rstrip(",").rstrip()))
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        value = None
    if not isinstance(value, str):
        raise DataError(f"{path}, line {line.number}: {line.text[:60]!r} is not one quoted text")
    return value
