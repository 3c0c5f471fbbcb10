"""Options that several commands of `wit-train` share."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from openwit.schemas.common.command import make_console, path_or_url
from openwit.schemas.common.errors import RecipeError, StorageError
from openwit.training.config.choices import Layer, Metric, Weights
from openwit.training.config.limits import LARGEST_BATCH, MOST_SAMPLES


def example(command: str) -> str:
    """Return the end of a command's help: an example that is not re-wrapped."""
    return f"\b\nExample:\n  {command}"


def say(line: str) -> None:
    """Print a line as it is: no markup, no breaks."""
    make_console().print(line, markup=False, soft_wrap=True)


def file_to_write(text: str) -> Any:
    """Return an option for a file to write, refused before anything is computed if it cannot be written.

    Args:
        text: of the help.
    """
    return typer.Option(help=text, callback=_writable_file)


def folder_to_write(text: str) -> Any:
    """Return an option for a folder to write into, refused as `file_to_write` is."""
    return typer.Option(help=text, callback=_writable_folder)


def _writable_file(path: Path | None) -> Path | None:
    if path is not None and path.is_dir():
        raise RecipeError(f"{path} is a folder: give the name of a file in it")
    return None if path is None else _writable(path, path.absolute().parent)


def _writable_folder(path: Path | None) -> Path | None:
    if path is not None and path.exists() and not path.is_dir():
        raise RecipeError(f"{path} is a file: give a folder")
    return None if path is None else _writable(path, path.absolute())


def _writable(path: Path, folder: Path) -> Path:
    """Refuse a path whose folder is not there and cannot be made, or may not be written to."""
    above = next(each for each in (folder, *folder.parents) if each.exists())
    if not above.is_dir():
        raise StorageError(f"{path} cannot be written: {above} is no folder")
    if not os.access(above, os.W_OK):
        raise StorageError(f"{path} cannot be written: {above} may not be written to")
    return path


ModelPath = Annotated[
    Path,
    typer.Argument(
        help="Run folder or its URL (its newest checkpoint), checkpoint file, or weights of OpenAI's or open_clip's.",
        parser=path_or_url,
        metavar="MODEL",
    ),
]
WeightsOption = Annotated[Weights, typer.Option(help="Trained weights, or their moving average if the run kept one.")]
QuickGelu = Annotated[
    bool | None,
    typer.Option("--quick-gelu/--gelu", help="Activation of weights of other programs, whose files do not state it."),
]
BatchSize = Annotated[int, typer.Option(min=1, max=LARGEST_BATCH, help="Images or texts embedded at once.")]
ConfigFile = Annotated[Path, typer.Argument(help="Training configuration (YAML).", metavar="CONFIG.yaml")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a key: a.b=value. Repeatable.", metavar="KEY=VALUE"),
]
Split = Annotated[
    str | None, typer.Option(help="Split of the data [default: the held-out one, if there are several].")
]
TestSplit = Annotated[
    str | None, typer.Option(help="Split of the test images [default: the held-out one, if there are several].")
]
ImagesFolder = Annotated[Path | None, typer.Option(help="Folder of the images that a JSON names.")]
CaptionedImageColumn = Annotated[str | None, typer.Option(help="Column of images, or of their paths.")]
CaptionColumn = Annotated[str | None, typer.Option(help="Column of captions, or of lists of them.")]
Prefix = Annotated[str, typer.Option(help="Text to put before every caption, such as 'a photo of '.")]
ImageColumn = Annotated[str | None, typer.Option(help="Column of images in Parquet.")]
LabelColumn = Annotated[str | None, typer.Option(help="Column of labels in Parquet.")]
Classes = Annotated[Path | None, typer.Option(help="Names of numbered classes, one per line from class 0.")]
TestImages = Annotated[
    Path | None,
    typer.Option(help="Test images: Parquet of images and labels, folder with one per class, or tars with .cls."),
]
ProbeMetric = Annotated[
    Metric | None, typer.Option(help="Metric on validation and test images [default: the dataset's, else accuracy].")
]
ProbedLayer = Annotated[Layer, typer.Option(help="Features before the projection, or after it.")]
Baselines = Annotated[
    bool, typer.Option("--baselines", help="Also probe raw pixels, and the same tower with random weights.")
]
TestLimit = Annotated[int | None, typer.Option(min=1, max=MOST_SAMPLES, help="Test on a random sample of N images.")]
FeaturesFolder = Annotated[Path | None, typer.Option(help="Folder that keeps features, to resume and use again.")]
JsonOut = Annotated[Path | None, file_to_write("JSON to write.")]
SvgOut = Annotated[Path | None, file_to_write("SVG to write.")]
KnownName = Annotated[
    str | None, typer.Option(help="Known dataset by name, such as cifar10, below --root.", metavar="NAME")
]
KnownRoot = Annotated[Path, typer.Option(help="Folder of known datasets, see `wit-train datasets`.")]
