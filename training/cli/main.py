"""Command line `wit-train`. Heavy imports are delayed until a command runs, so that `--help` is fast."""

import os
import sys
from collections.abc import Callable
from typing import Any

import typer

from openwit.schemas.common.command import Version, ending_when_stopped, run_app
from openwit.training.cli.commands import comparisons, embeddings, probes, retrieval, training, weights, zero_shot
from openwit.training.cli.options import example

app = typer.Typer(
    name="wit-train",
    help="Train CLIP on a WebImageText dataset, evaluate and export it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

COMMANDS: tuple[tuple[Callable[..., None], str], ...] = (
    (training.fit, "wit-train fit demo/train.yaml --set optim.lr=1e-3 --set run=out/other"),
    (training.memory, "wit-train memory paper/train-vit-b-32.yaml --processes 8"),
    (
        retrieval.retrieval,
        "wit-train retrieval out/demo/run --data out/demo/dataset --split val --contact-sheet sheet.png",
    ),
    (embeddings.embed, "wit-train embed out/demo/run out/demo/dataset --split val --out out/demo/embeddings"),
    (embeddings.index, "wit-train index out/demo/embeddings --out out/demo/index"),
    (embeddings.search, 'wit-train search out/demo/embeddings --text "a red box" --contact-sheet nearest.png'),
    (zero_shot.zero_shot, "wit-train zero-shot out/demo/run --data cifar10.parquet --prompts cifar10"),
    (zero_shot.datasets, "wit-train datasets data/evaluation"),
    (probes.probe, "wit-train probe out/demo/run --data cifar10.parquet --baselines --out probe.json"),
    (probes.few_shot, "wit-train few-shot out/demo/run --data cifar10.parquet --plot few-shot.svg"),
    (
        comparisons.robustness,
        "wit-train robustness out/demo/run --base cifar10.parquet --shifted photos/ --out robustness.json",
    ),
    (
        comparisons.overlap,
        "wit-train overlap out/demo/run --data cifar10.parquet --report clean.overlap.parquet --page overlap.html",
    ),
    (comparisons.evaluate, "wit-train evaluate out/demo/run --suite suite.yaml --out out/suite"),
    (weights.export, "wit-train export out/demo/run --format open_clip --out out/demo/open_clip"),
    (training.tokenizer, "wit-train tokenizer out/demo/dataset --vocabulary 16384 --out out/demo/merges.txt"),
    (weights.average, "wit-train average out/run/checkpoints/step-*.pt --out out/run/average.pt"),
    (training.settings, "wit-train settings optim"),
)
"""Each command with the example that ends its help, in the order of the help."""

for _command, _example in COMMANDS:
    app.command(_command.__name__.replace("_", "-"), epilog=example(_example))(_command)


@app.callback()
def _root(version: Version = False) -> None:
    pass


def main(arguments: list[str] | None = None) -> Any:
    """Run `wit-train`: a user's mistake ends in one sentence on standard error and exit code 2."""
    # Read by the OpenMP runtime when torch loads it. Waiting threads that sleep instead of spinning cost nothing on an
    # idle machine (measured: 1.37 s per step both ways) and make a busy one 1.7 to 3 times as fast.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # At the end, so that it shadows nothing: a module beside the configuration can be named in it (`mypkg.Objective`).
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    with ending_when_stopped():
        run_app(app, "wit-train", part="train", arguments=arguments)


if __name__ == "__main__":
    main()
