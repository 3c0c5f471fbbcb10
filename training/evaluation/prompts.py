"""Turn a class's name into texts with templates (paper section 3.1.4)."""

import re
from collections.abc import Sequence
from pathlib import Path

from openwit.schemas.common.errors import DataError

# Placeholders of the name: {label} as in the paper, {} as in openai/CLIP, {c} as in CLIP_benchmark.
_PLACE = re.compile(r"\{(?:label|c)?\}")

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

NAMED = {"paper": PAPER, "cifar10": CIFAR10, "name": ("{label}",)}


def filled(template: str, label: str) -> str:
    """Return the template with the class's name inserted."""
    return _PLACE.sub(lambda _: label, template)


def read_prompts(wanted: str) -> tuple[str, ...]:
    """Return the templates of a name (`NAMED`) or of a file: one template per line, without empty lines.

    Raises:
        DataError: no such name or file, or a line without a placeholder for the class's name.
    """
    if wanted in NAMED:
        return NAMED[wanted]
    lines = read_lines(Path(wanted), f"no prompts of a known name ({', '.join(NAMED)}) and no file")
    for number, line in lines:
        if not _PLACE.search(line):
            raise DataError(f"{wanted}, line {number}: {line[:60]!r} has no {{label}}, where the class's name goes")
    if not lines:
        raise DataError(f"{wanted} holds no templates: write one a line, such as 'A photo of a {{label}}.'")
    return tuple(line for _, line in lines)


def read_lines(path: Path, missing: str = "no file") -> Sequence[tuple[int, str]]:
    """Return the non-empty lines of a text file, stripped of white space, with their numbers from 1.

    Raises:
        DataError: it does not exist (`missing` is the beginning of the message) or is not UTF-8 text.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise DataError(f"{path} is {missing}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text: {error}") from error
    # Not splitlines(), which also splits at characters that may occur in a name.
    stripped = [(number, line.strip()) for number, line in enumerate(text.split("\n"), start=1)]
    return [(number, line) for number, line in stripped if line]
