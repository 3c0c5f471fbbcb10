"""Define the command that evaluates retrieval."""

from pathlib import Path
from typing import Annotated

import typer

from openwit.schemas.common.command import make_console
from openwit.training.cli.options import (
    BatchSize,
    CaptionColumn,
    CaptionedImageColumn,
    ImagesFolder,
    ModelPath,
    Prefix,
    QuickGelu,
    Split,
    WeightsOption,
    file_to_write,
    folder_to_write,
    say,
)
from openwit.training.config.choices import Weights
from openwit.training.config.limits import MOST_SAMPLES


def retrieval(
    model: ModelPath,
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            "--dataset",
            help="Dataset folder, tars, Parquet, COCO's or Karpathy's JSON, table of paths, or folder of images.",
        ),
    ],
    split: Split = None,
    images: ImagesFolder = None,
    image_column: CaptionedImageColumn = None,
    caption_column: CaptionColumn = None,
    prefix: Prefix = "",
    image_to_image: Annotated[
        bool, typer.Option("--image-to-image", help="Find images by images of the same class or group.")
    ] = False,
    group_column: Annotated[
        str | None, typer.Option(help="Column of groups, for --image-to-image [default: the class, or group].")
    ] = None,
    batch_size: BatchSize = 256,
    limit: Annotated[
        int | None, typer.Option(min=2, max=MOST_SAMPLES, help="Evaluate on the first N images only.")
    ] = None,
    out: Annotated[Path | None, folder_to_write("Folder for retrieval.json [default: the run folder].")] = None,
    contact_sheet: Annotated[Path | None, file_to_write("Draw captions and their best images to this PNG.")] = None,
    allow_train: Annotated[
        bool, typer.Option("--allow-train", help="Evaluate even on the split that the model was trained on.")
    ] = False,
    weights: WeightsOption = Weights.MODEL,
    quick_gelu: QuickGelu = None,
) -> None:
    """Evaluate retrieval: recall at 1, 5 and 10 in both directions, with chance level and 95% intervals.

    With --image-to-image: of images among images, where another one of the same class or group is right.
    """
    from openwit.training.checkpoints.load import load_model
    from openwit.training.cli.retrieval import check_options, result_folder, run_image_retrieval, run_retrieval
    from openwit.training.config.evaluation_data import DatasetSettings
    from openwit.training.config.measurements import ImageToImageMeasurement
    from openwit.training.evaluation.captioned.open import CaptionedData, open_captioned

    captioned = {"--caption-column": caption_column, "--prefix": prefix, "--contact-sheet": contact_sheet}
    check_options(image_to_image, {**captioned, "--images": images}, {"--group-column": group_column})
    loaded = load_model(model, weights=weights, quick_gelu=quick_gelu, report=say)
    into, console = out or result_folder(model), make_console()
    if image_to_image:
        place = DatasetSettings(name="data", data=data, split=split, image_column=image_column)
        how = ImageToImageMeasurement(group_column=group_column, limit=limit)
        run_image_retrieval(loaded, place, how, console=console, out=into, batch_size=batch_size)
        return
    wanted = CaptionedData(data, split=split, images=images, image_column=image_column, caption_column=caption_column)
    run_retrieval(
        loaded,
        open_captioned(wanted, say),
        console=console,
        out=into,
        contact_sheet=contact_sheet,
        batch_size=batch_size,
        limit=limit,
        allow_train=allow_train,
        prefix=prefix,
    )
