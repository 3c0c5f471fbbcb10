"""Options of the command that downloads images, in groups: each gives settings of steps by dotted key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import typer

from openwit.pipeline.images.settings import ResizeMode
from openwit.pipeline.stages.limits import LARGEST_SEED

_LARGEST = 1_000_000_000


@dataclass(frozen=True)
class TableOptions:
    """Which columns of the inputs are read."""

    url_col: Annotated[
        str | None,
        typer.Option("--url-col", help="Column of URLs, where it has no usual name."),
    ] = None
    caption_col: Annotated[
        list[str] | None,
        typer.Option("--caption-col", help="Column of texts, where it has no usual name. Repeatable."),
    ] = None
    keep_col: Annotated[
        list[str] | None, typer.Option("--keep-col", help="Column to keep in the dataset, or all. Repeatable.")
    ] = None
    key_col: Annotated[
        str | None, typer.Option("--key-col", help="Column whose values name the samples, in place of numbers.")
    ] = None

    def settings(self) -> dict[str, Any]:
        """Return the settings, None where an option was not given."""
        return {
            "candidates.columns.url": self.url_col,
            "candidates.columns.text": self.caption_col,
            "candidates.columns.keep": "all" if self.keep_col == ["all"] else self.keep_col,
            "candidates.columns.key": self.key_col,
            "shard.keys": None if self.key_col is None else "input",
        }


@dataclass(frozen=True)
class ShardOptions:
    """How samples are sharded."""

    samples: Annotated[
        int | None, typer.Option("--samples", min=1, max=_LARGEST, help="Samples per shard [default: 10000].")
    ] = None
    order: Annotated[
        Literal["input", "shuffled"], typer.Option("--order", help="Keep the order of the input, or shuffle.")
    ] = "input"
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Random seed of --order shuffled.")
    ] = None

    def settings(self) -> dict[str, Any]:
        """Return the settings, None where an option was not given."""
        return {
            "shard.samples": self.samples,
            "shard.order": None if self.order == "input" else self.order,
            "shard.seed": self.seed,
        }


@dataclass(frozen=True)
class ImageOptions:
    """How images are checked and resized."""

    size: Annotated[
        int | None,
        typer.Option("--size", min=1, max=8192, help="Length in pixels [default: 256]."),
    ] = None
    resize_mode: Annotated[
        ResizeMode | None, typer.Option("--resize-mode", help="What becomes as long [default: keep_ratio].")
    ] = None
    enlarge: Annotated[bool, typer.Option("--enlarge", help="Resize smaller images too.")] = False
    quality: Annotated[
        int | None, typer.Option("--quality", min=1, max=100, help="Quality of the encoder [default: 95].")
    ] = None
    min_size: Annotated[
        int | None,
        typer.Option(
            "--min-size", min=1, max=65_536, help="Drop images whose short side is below this [default: 32]."
        ),
    ] = None
    max_pixels: Annotated[
        int | None,
        typer.Option("--max-pixels", min=1, max=178_956_970, help="Drop images with more pixels [default: 50000000]."),
    ] = None
    max_aspect_ratio: Annotated[
        float | None, typer.Option("--max-aspect-ratio", min=1, max=65_536, help="Drop narrower images [default: 6].")
    ] = None

    def settings(self) -> dict[str, Any]:
        """Return the settings, None where an option was not given."""
        return {
            "fetch.image.size": self.size,
            "fetch.image.mode": None if self.resize_mode is None else self.resize_mode.value,
            "fetch.image.only_if_bigger": False if self.enlarge else None,
            "fetch.image.quality": self.quality,
            "fetch.image.min_size": self.min_size,
            "fetch.image.max_pixels": self.max_pixels,
            "fetch.image.max_aspect_ratio": self.max_aspect_ratio,
        }


@dataclass(frozen=True)
class DownloadOptions:
    """How images are asked for."""

    threads: Annotated[
        int | None,
        typer.Option("--threads", min=1, max=4096, help="Concurrent transfers of a process [default: 256]."),
    ] = None
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", min=0.001, max=86_400, help="Seconds for one attempt at a URL [default: 30]."),
    ] = None
    retries: Annotated[
        int | None, typer.Option("--retries", min=0, max=10, help="Retries of failures that may pass [default: 1].")
    ] = None
    user_agent: Annotated[
        str | None, typer.Option("--user-agent", help="Header of the requests: a name and a contact.")
    ] = None
    robots: Annotated[bool, typer.Option("--robots/--no-robots", help="Obey robots.txt.")] = True
    opt_outs: Annotated[
        bool, typer.Option("--opt-outs/--no-opt-outs", help="Obey X-Robots-Tag and tdm-reservation.")
    ] = True

    def settings(self) -> dict[str, Any]:
        """Return the settings, None where an option was not given."""
        return {
            "fetch.download.concurrency": self.threads,
            "fetch.download.timeout_s": self.timeout,
            "fetch.download.retries": self.retries,
            "fetch.download.user_agent": self.user_agent,
            "fetch.download.robots": None if self.robots else False,
            "fetch.download.opt_outs": None if self.opt_outs else False,
        }
