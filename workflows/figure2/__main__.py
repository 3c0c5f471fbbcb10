"""`python -m openwit.workflows.figure2`: train the objectives, score them over samples seen, fill a page."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from openwit.schemas.common.atomic import atomic_write
from openwit.schemas.common.command import entry_point, make_console
from openwit.schemas.common.errors import DataError
from openwit.training.checkpoints.files import load_checkpoint
from openwit.training.data.sharded import ShardedDataset
from openwit.workflows.figure2.experiment import run_experiment
from openwit.workflows.figure2.matching import measure, table_of
from openwit.workflows.figure2.report import load_result, update
from openwit.workflows.figure2.settings import load_experiment

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Figure 2 of the paper: objectives by accuracy over samples seen.",
)


@app.command(
    epilog="Example: python -m openwit.workflows.figure2 run figure2/experiment.yaml --set zero_shot=cifar10.parquet"
)
def run(
    settings: Annotated[Path, typer.Argument(help="Settings of the experiment (YAML).", metavar="EXPERIMENT.yaml")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override a key: a=value. Repeatable.", metavar="KEY=VALUE")
    ] = None,
) -> None:
    """Train each objective with each seed and score every checkpoint. Run the same command again to resume."""
    experiment, configs = load_experiment(settings, overrides or [])
    code = run_experiment(experiment, configs, make_console())
    if code:
        raise typer.Exit(code)


@app.command(epilog="Example: python -m openwit.workflows.figure2 report docs/figure2.md --out out/figure2")
def report(
    pages: Annotated[list[Path], typer.Argument(help="Markdown pages with marks to fill.")],
    out: Annotated[Path, typer.Option(help="Folder of a finished experiment.")] = Path("out/figure2"),
    images: Annotated[
        str, typer.Option(help="Folder of the figures, relative to each page; it is made if it is missing.")
    ] = "images",
) -> None:
    """Fill what is between `<!-- figure2: NAME -->` and `<!-- /figure2 -->`, and write the figures beside the page."""
    result = load_result(out)
    console = make_console()
    for page in pages:
        changed = update(page, result, images)
        console.print(f"{page}: {'updated' if changed else 'current already'}", markup=False, soft_wrap=True)


@app.command(
    epilog="Example: python -m openwit.workflows.figure2 compare out/figure2/contrastive out/figure2/bag_of_words "
    "out/figure2/captioning --dataset out/flickr8k/dataset"
)
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    dataset: Annotated[Path, typer.Option(help="Dataset folder.")],
    split: Annotated[str, typer.Option(help="Held-out split.")] = "val",
    images: Annotated[
        int, typer.Option(min=2, max=1_000_000, help="Images to choose from; a captioner reads this many squared.")
    ] = 100,
    out: Annotated[Path | None, typer.Option(help="Write the points as JSON.")] = None,
) -> None:
    """Match texts and images by each run's scores, checkpoint by checkpoint."""
    console = make_console()
    paths = {run: sorted((run / "checkpoints").glob("step-*.pt")) for run in runs}
    for run, found in paths.items():
        if not found:
            raise DataError(f"{run} holds no checkpoint: train one with `wit-train fit figure2/train-*.yaml`")
    samples = ShardedDataset(dataset, split)
    points = []
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("scoring", total=sum(map(len, paths.values())))
        for run, found in paths.items():
            for path in found:
                points.append(measure(run.name, load_checkpoint(path), samples, images))
                progress.advance(task)
    console.print(table_of(points, images))
    if out is not None:
        atomic_write(out, json.dumps([asdict(point) for point in points], indent=1) + "\n")
        console.print(f"wrote {out}", markup=False, soft_wrap=True)


main = entry_point(app, "python -m openwit.workflows.figure2")

if __name__ == "__main__":
    main()
