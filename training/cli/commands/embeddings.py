"""Define the commands of embeddings: embed, index, search."""

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
    say,
)
from openwit.training.config.choices import Embedded, Floats, Searched, Weights
from openwit.training.config.limits import MOST_SAMPLES


def embed(
    model: ModelPath,
    data: Annotated[
        Path,
        typer.Argument(
            help="Dataset folder, tars, Parquet, COCO's or Karpathy's JSON, table of paths, or folder of images.",
            metavar="DATA",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write, or to resume.")],
    split: Split = None,
    of: Annotated[Embedded, typer.Option(help="What is embedded.")] = Embedded.BOTH,
    dtype: Annotated[Floats, typer.Option(help="Numbers of the arrays.")] = Floats.FLOAT16,
    part: Annotated[int, typer.Option(min=1, max=MOST_SAMPLES, help="Samples in a part.")] = 50_000,
    share: Annotated[
        str | None,
        typer.Option(help="Make only share I of N of the parts [default: torchrun's or srun's].", metavar="I/N"),
    ] = None,
    prefix: Prefix = "",
    images: ImagesFolder = None,
    image_column: CaptionedImageColumn = None,
    caption_column: CaptionColumn = None,
    batch_size: BatchSize = 256,
    weights: WeightsOption = Weights.MODEL,
    quick_gelu: QuickGelu = None,
) -> None:
    """Embed images and their first captions into arrays and tables of clip-retrieval's layout.

    Run the same command again to resume after an interruption. For several processes use torchrun --nproc-per-node N
    -m openwit.training embed …, or --share I/N on machines that share the folder.
    """
    from openwit.training.checkpoints.load import load_model
    from openwit.training.cli.embed import embedded, run_embed, share_of
    from openwit.training.evaluation.captioned.bare import open_pictures
    from openwit.training.evaluation.captioned.open import CaptionedData
    from openwit.training.evaluation.search.pictures import source_of
    from openwit.training.evaluation.search.write import EmbedSettings

    rank, size = share_of(share)
    wanted = CaptionedData(data, split=split, images=images, image_column=image_column, caption_column=caption_column)
    captions = of is not Embedded.IMAGES
    samples, captioned = open_pictures(wanted, say if rank == 0 else lambda _: None, captions=captions)
    wanted_of = embedded(of, data, captioned=captioned)
    loaded = load_model(model, weights=weights, quick_gelu=quick_gelu, report=say)
    settings = EmbedSettings(
        of=wanted_of,
        dtype=dtype.value,
        part=part,
        batch_size=batch_size,
        prefix=prefix,
        rank=rank,
        size=size,
        source=source_of(wanted, captions=captions),
        model_path=str(model),
    )
    run_embed(loaded, samples, out, settings, console=make_console())


def index(
    embeddings: Annotated[Path, typer.Argument(help="Folder of embeddings.", metavar="EMBEDDINGS")],
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist yet.")],
    of: Annotated[Searched, typer.Option(help="Vectors to index.")] = Searched.IMAGES,
    recall: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Wanted share of the 10 exact nearest that are found.")
    ] = 0.95,
) -> None:
    """Index embeddings with faiss (openwit[search]), and measure the recall of the index against exact search."""
    from openwit.training.evaluation.search.approximate import build_index
    from openwit.training.evaluation.search.vectors import open_vectors

    build_index(open_vectors(embeddings, of.value), out, recall=recall, report=say)
    say(f"wrote {out}")


def search(
    where: Annotated[Path, typer.Argument(help="Folder of embeddings, or of an index of them.", metavar="INDEX")],
    text: Annotated[str | None, typer.Option(help="Text to search by.")] = None,
    image: Annotated[Path | None, typer.Option(help="Image file to search by.")] = None,
    k: Annotated[int, typer.Option("--k", min=1, max=10_000, help="Number of results.")] = 10,
    of: Annotated[Searched | None, typer.Option(help="What is found [default: images].")] = None,
    model: Annotated[
        Path | None, typer.Option(help="Model that made the embeddings [default: the one that they name].")
    ] = None,
    contact_sheet: Annotated[Path | None, file_to_write("Draw the results to this PNG.")] = None,
    out: Annotated[Path | None, file_to_write("JSON to write, with the results.")] = None,
    weights: WeightsOption = Weights.MODEL,
    quick_gelu: QuickGelu = None,
) -> None:
    """Find the nearest images (or captions) to a text or an image, exactly or by an index."""
    from openwit.training.checkpoints.load import load_model
    from openwit.training.cli.search import check_query, model_of, run_search
    from openwit.training.evaluation.search.find import open_searchable

    check_query(text, image)
    searchable = open_searchable(where, None if of is None else of.value)
    path = model_of(searchable, model)
    run_search(
        searchable,
        lambda: load_model(path, weights=weights, quick_gelu=quick_gelu, report=say),
        console=make_console(),
        text=text,
        image=image,
        k=k,
        contact_sheet=contact_sheet,
        out=out,
    )
