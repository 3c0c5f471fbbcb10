"""Read the table of known evaluation datasets: names, metric, published sizes, layouts, what each tests."""

from functools import cache
from importlib import resources
from typing import Any, Literal

import yaml
from pydantic import Field

from openwit.schemas.common.errors import DataError
from openwit.schemas.common.settings import Settings
from openwit.training.config.choices import Metric
from openwit.training.evaluation.named_lists import folded

LayoutKind = Literal[
    "aircraft",
    "cars",
    "cifar",
    "dtd",
    "fer2013",
    "flowers",
    "folder",
    "food101",
    "gtsrb",
    "hateful_memes",
    "mnist",
    "pets",
    "stl10",
    "sun397",
    "svhn",
    "voc",
]
_SPLITS = {"valid": "val", "validation": "val", "training": "train", "testing": "test"}


class KnownLayout(Settings):
    """A dataset's own layout, as torchvision has it."""

    kind: LayoutKind = Field(description="reader")
    folder: str = Field(description="below the root")


class KnownDataset(Settings):
    """A dataset of the table."""

    name: str = Field(description="CLIP_benchmark's name where it has one")
    title: str = Field(description="for people")
    aliases: tuple[str, ...] = Field((), description="other names, of folders and in lists of class names")
    wds: tuple[str, ...] = Field((), description="names of its WebDataset export, if not the name and the aliases")
    paper: bool = Field(False, description="whether it is one of the paper's 27")
    classes: int = Field(ge=2, le=100_000, description="number of classes")
    metric: Metric = Field(Metric.ACCURACY, description="of the paper, table 9")
    tests: tuple[str, ...] = Field(description="what it tests")
    prompts: str = Field(description="built-in set of templates")
    splits: dict[str, dict[str, int]] = Field(description="published numbers of images, by split and source")
    layouts: tuple[KnownLayout, ...] = Field((), description="own layouts")

    @property
    def names(self) -> tuple[str, ...]:
        """Return the name and its aliases."""
        return (self.name, *self.aliases)

    def published(self, split: str) -> dict[int, str]:
        """Return the published sizes of a split, with where each is from; empty if none is known."""
        found: dict[int, list[str]] = {}
        for source, images in self.splits.get(_SPLITS.get(split, split), {}).items():
            found.setdefault(images, []).append(_sources()[source])
        return {images: " and ".join(sources) for images, sources in found.items()}


def known_datasets() -> tuple[KnownDataset, ...]:
    """Return all datasets of the table, the paper's first."""
    return _table()


def find_known(name: str) -> KnownDataset:
    """Return the dataset of a name or alias.

    Raises:
        DataError: there is none.
    """
    wanted = folded(name.removeprefix("wds/").removeprefix("vtab/"))
    for known in _table():
        if wanted in {folded(each) for each in known.names}:
            return known
    names = ", ".join(known.name for known in _table())
    raise DataError(f"no dataset {name!r} is known: it is one of {names}; or give --data")


def _read() -> Any:
    path = resources.files("openwit.training.evaluation.registry").joinpath("datasets.yaml")
    return yaml.safe_load(path.read_text("utf-8"))


@cache
def _sources() -> dict[str, str]:
    found: dict[str, str] = _read()["sources"]
    return found


@cache
def _table() -> tuple[KnownDataset, ...]:
    return tuple(KnownDataset.model_validate(each) for each in _read()["datasets"])
