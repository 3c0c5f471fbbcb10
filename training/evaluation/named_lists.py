"""Read one list of texts from a file that holds several by name.

Such files are CLIP_benchmark's `en_classnames.json` and `en_zeroshot_classification_templates.json` (a list for each
dataset), open_clip's `zero_shot_metadata.py` (a list for each name), openai/CLIP's `prompts.md` (classes and templates
below a heading for each dataset), and YAML of the same shape as the JSON.
"""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from openwit.schemas.common.errors import DataError
from openwit.schemas.common.text_files import read_text
from openwit.training.evaluation.pasted import TEXTS_BY_PLACE, Line, read_lines, text_of_node

Kind = Literal["classes", "templates"]
"""What is looked for."""

_WORDS: dict[Kind, re.Pattern[str]] = {
    "classes": re.compile(r"class|label|name", re.IGNORECASE),
    "templates": re.compile(r"template|prompt", re.IGNORECASE),
}
_MOST_CHARACTERS = 64 << 20
_FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+[ \t]+(.+?)[ \t]*$", re.MULTILINE)


def read_named_list(path: Path, kind: Kind, keys: Sequence[str] = (), missing: str = "no file") -> Sequence[Line]:
    """Return a list of a file: the only one, the one that `FILE#NAME` names, or the one of a dataset.

    Args:
        path: the file, or FILE#NAME.
        kind: what is looked for, in files that hold classes and templates.
        keys: names of the dataset, such as cifar10; spelling apart from letters and digits does not count.
        missing: see `openwit.training.evaluation.pasted.read_lines`.

    Raises:
        DataError: there is no such file or list, or which of several is meant is not known.
    """
    asked: str | None = None
    if not path.exists() and "#" in path.name:
        name, _, asked = path.name.partition("#")
        path = path.with_name(name)
    if not path.is_file() or path.suffix.lower() not in _READERS:
        if asked is not None and path.exists():
            raise DataError(f"{path} holds one list, so #{asked} names none")
        return read_lines(path, missing, gaps=kind != "classes")
    lists = _READERS[path.suffix.lower()](path)
    if lists is None:
        return read_lines(path, missing, gaps=kind != "classes")
    return _checked(_chosen(lists, path, kind, keys, asked), path, gaps=kind != "classes")


def _chosen(lists: dict[str, Any], path: Path, kind: Kind, keys: Sequence[str], asked: str | None) -> Any:
    """Return the list that is meant."""
    found = {name: value for name, value in lists.items() if _WORDS[kind].search(name.rpartition("/")[2])} or lists
    by_fold: dict[str, Any] = {}
    for name, value in found.items():
        by_fold.setdefault(folded(name.partition("/")[0]), value)
    if asked is not None:
        if folded(asked) not in by_fold:
            raise DataError(f"{path} has no list {asked} of {kind} (it has: {_shown(found)})")
        return by_fold[folded(asked)]
    for key in keys:
        if folded(key) in by_fold:
            return by_fold[folded(key)]
    if len(found) == 1:
        return next(iter(found.values()))
    raise DataError(
        f"{path} holds {len(found)} lists by name ({_shown(found)}): leave one of them, or name one, as in "
        f"{path.name}#{next(iter(found)).partition('/')[0]}"
    )


def folded(name: str) -> str:
    """Return the letters and digits of a name in lower case, by which names of datasets are compared."""
    return "".join(character for character in name.casefold() if character.isalnum())


def _shown(lists: Mapping[str, object]) -> str:
    names = list(dict.fromkeys(name.partition("/")[0] for name in lists))
    return ", ".join(names[:5]) + (" …" if len(names) > 5 else "")


def _checked(value: Any, path: Path, *, gaps: bool) -> list[Line]:
    if isinstance(value, dict):
        raise DataError(
            f"{path} has templates for each class of its own, which is not supported: give one list for all"
        )
    if not isinstance(value, list) or not value:
        raise DataError(f"{path} holds no list of texts by that name")
    lines = []
    for number, each in enumerate(value, start=1):
        if isinstance(each, bool) or not isinstance(each, str | int | float):
            raise DataError(f"{path}, entry {number} is {each!r}, not a text: put it in quotes")
        if text := str(each).strip():
            lines.append(Line(number, text))
        elif not gaps:
            raise DataError(f"{path}, entry {number} is empty, and {TEXTS_BY_PLACE}")
    return lines


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(read_text(path, once=True))
    except (ValueError, RecursionError):
        return None
    return _lists(value)


def _read_yaml(path: Path) -> dict[str, Any] | None:
    text = read_text(path, once=True)
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path} is no valid YAML: {' '.join(str(error).split())}") from error
    if isinstance(value, list):
        return {path.stem: value}
    if isinstance(value, dict) and value and all(isinstance(key, int) and not isinstance(key, bool) for key in value):
        if sorted(value) != list(range(len(value))):
            raise DataError(f"{path} numbers its texts, but not from 0 without gaps")
        return {path.stem: [value[number] for number in range(len(value))]}
    lists = _lists(value)
    if lists is None:
        raise DataError(f"{path} is YAML, but neither a list of texts nor lists by name")
    return lists


def _lists(value: Any) -> dict[str, Any] | None:
    """Return lists by name; None for anything else, such as one list, or texts by number."""
    if not isinstance(value, dict) or not any(isinstance(each, list) for each in value.values()):
        return None
    return {str(name): each for name, each in value.items() if isinstance(each, list | dict)}


def _read_python(path: Path) -> dict[str, Any] | None:
    text = read_text(path, once=True)
    lists = _assigned(text)
    return lists if len(lists) > 1 else None  # one list, or code that is none: read as pasted lines


def _read_markdown(path: Path) -> dict[str, Any] | None:
    text = read_text(path, once=True)
    headings = [(match.start(), match[1]) for match in _HEADING.finditer(text)]
    found: dict[str, Any] = {}
    for block in _FENCE.finditer(text):
        heading = next((name for start, name in reversed(headings) if start < block.start()), path.stem)
        for name, value in _assigned(block[1]).items():
            found.setdefault(f"{heading}/{name}", value)
    return found or None


def _assigned(text: str) -> dict[str, Any]:
    """Return the lists of texts that code assigns to names; code of any other kind is passed over."""
    if len(text) > _MOST_CHARACTERS:
        return {}
    try:
        module = ast.parse(text.replace("\r\n", "\n"))
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return {}
    found: dict[str, Any] = {}
    for node in module.body:
        if not isinstance(node, ast.Assign) or len(node.targets) != 1 or not isinstance(node.targets[0], ast.Name):
            continue
        if isinstance(node.value, ast.List | ast.Tuple):
            texts = [text_of_node(each) for each in node.value.elts]
            if texts and all(each is not None for each in texts):
                found[node.targets[0].id] = texts
    return found


_READERS = {
    ".json": _read_json,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".py": _read_python,
    ".md": _read_markdown,
}
