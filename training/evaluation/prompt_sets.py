"""Choose sets of templates: those asked for, those beside the data, and the paper's single one beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from openwit.training.evaluation.classification_readers import LabelledData
from openwit.training.evaluation.prompts import PAPER, TEMPLATES_BESIDE, read_prompts


@dataclass(frozen=True)
class Prompts:
    """A set of templates.

    Attributes:
        name: of a built-in set, or of its file.
        templates: each with the place of the class's name.
    """

    name: str
    templates: tuple[str, ...]


def choose_prompts(wanted: Sequence[str], data: LabelledData, default: str = "paper") -> list[Prompts]:
    """Return the sets that are asked for, or one: that of CLIP_benchmark's file beside the data, else the default.

    Args:
        wanted: names of built-in sets and files.
        data: the labelled images.
        default: name of the set if there is no file.

    Raises:
        DataError: there is no such set or file.
    """
    if not wanted:
        beside = templates_beside(data.data)
        wanted = [default if beside is None else str(beside)]
    return [Prompts(name, read_prompts(name, data.names)) for name in dict.fromkeys(wanted)]


def templates_beside(data: Path) -> Path | None:
    """Return the file of templates in a folder of data, or beside a file; None if there is none."""
    path = (data if data.is_dir() else data.parent) / TEMPLATES_BESIDE
    return path if path.is_file() else None


def with_single(sets: Sequence[Prompts]) -> list[Prompts]:
    """Return the sets, with the paper's one template beside an ensemble that was asked for alone."""
    if len(sets) > 1 or len(sets[0].templates) == 1:
        return list(sets)
    return [*sets, Prompts("paper", PAPER)]
