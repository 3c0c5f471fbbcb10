"""Turn a class's name into texts with templates (paper section 3.1.4)."""

import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import yaml

from openwit.schemas.common.errors import DataError
from openwit.training.evaluation.named_lists import read_named_list

# Placeholders of the name: {label} as in the paper, {} as in openai/CLIP, {c} as in CLIP_benchmark.
_PLACE = re.compile(r"\{(?:label|c)?\}")

# As other code writes it: {classname}, {0}, %s, %(name)s, ${class}, <class>, [CLASS].
_OTHER_PLACE = re.compile(r"\$?\{\w+\}|%s|%\(\w+\)s|<(?:class|classname|label|name)>|\[(?:CLASS|LABEL|NAME)\]")

# The paper's default, section 3.1.4.
PAPER = ("A photo of a {label}.",)

# openai/CLIP, data/prompts.md, CIFAR10 (MIT licence): CIFAR-10 and CIFAR-100 share these eighteen.
_CIFAR_KINDS = ("", "blurry ", "black and white ", "low contrast ", "high contrast ", "bad ", "good ")
CIFAR10 = tuple(
    template
    for article in ("a", "the")
    for template in (
        *(f"a {kind}photo of {article} {{label}}." for kind in _CIFAR_KINDS),
        *(f"a photo of {article} {size} {{label}}." for size in ("small", "big")),
    )
)

TEMPLATES_BESIDE = "zeroshot_classification_templates.txt"
"""Name of CLIP_benchmark's file of templates beside a set's tars."""


def _built_in() -> dict[str, tuple[str, ...]]:
    text = resources.files("openwit.training.evaluation.templates").joinpath("sets.yaml").read_text("utf-8")
    return {name: tuple(templates) for name, templates in yaml.safe_load(text).items()}


NAMED: dict[str, tuple[str, ...]] = {"paper": PAPER, "cifar10": CIFAR10, "name": ("{label}",), **_built_in()}
"""Built-in sets: the paper's one template, openai/CLIP's for CIFAR, the bare name, and ours by domain."""


def filled(template: str, label: str) -> str:
    """Return the template with the class's name inserted."""
    return _PLACE.sub(lambda _: label, template)


def read_prompts(wanted: str, keys: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the templates of a name (`NAMED`) or of a file: one template per line, or a list pasted from code.

    The place of the class's name may be written in any of the usual ways: `{label}`, `{}`, `{c}`, `{classname}`, `%s`.

    Args:
        wanted: the name, or the file, see `openwit.training.evaluation.named_lists.read_named_list`.
        keys: names of the dataset, for files with a list for each.

    Raises:
        DataError: no such name or file, or a line without a placeholder for the class's name.
    """
    if wanted in NAMED:
        return NAMED[wanted]
    missing = f"no prompts of a known name ({', '.join(NAMED)}) and no file"
    lines = read_named_list(Path(wanted), "templates", keys, missing)
    if not lines:
        raise DataError(f"{wanted} holds no templates: write one a line, such as 'A photo of a {{label}}.'")
    return tuple(_template(line, f"{wanted}, line {number}") for number, line in lines)


def _template(line: str, where: str) -> str:
    is_known = _PLACE.search(line) is not None
    others = sorted({place for place in _OTHER_PLACE.findall(line) if not _PLACE.fullmatch(place)})
    if len(others) > (0 if is_known else 1):
        raise DataError(f"{where}: {line[:60]!r} has places for other things than the name: {', '.join(others)}")
    if not is_known and not others:
        raise DataError(f"{where}: {line[:60]!r} has no {{label}}, where the class's name goes")
    return line if is_known else _OTHER_PLACE.sub("{label}", line)
