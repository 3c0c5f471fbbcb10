"""`python -m openwit.workflows.demo`: make, serve and crawl the demo's little web."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from openwit.schemas.common.command import make_console, user_errors
from openwit.schemas.common.parts import require_part

with user_errors("demo", "demo"):
    require_part("demo", "the demo")
    from openwit.workflows.demo.crawler import SiteCrawl, crawl
    from openwit.workflows.demo.job import run_demo
    from openwit.workflows.demo.report import DemoResult, update
    from openwit.workflows.demo.serving import run_server, serving
    from openwit.workflows.demo.web import make_inputs

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="The demo's little web of emoji pictures. Example: python -m openwit.workflows.demo all --out out/demo",
)

Out = Annotated[Path, typer.Option(help="Folder of the demo; holds web/, wikipedia/ and crawl/.")]
Port = Annotated[int, typer.Option(help="Port on loopback; 0 takes a free one.", min=0, max=65535)]
Concepts = Annotated[
    int | None, typer.Option(help="Maximum number of emoji, for a quick look. Default: all.", min=1, max=100_000)
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Remove a web of other settings or versions and make it again.")]

_DEFAULT_OUT = Path("out/demo")


@app.command("make-web")
def make_web_command(out: Out = _DEFAULT_OUT, concepts: Concepts = None, fresh: Fresh = False) -> None:
    """Draw the web to OUT/web and copy the part of Wikipedia to OUT/wikipedia.

    Example: python -m openwit.workflows.demo make-web --out out/demo
    """
    print(make_inputs(out, concepts, fresh=fresh))


@app.command("serve")
def serve_command(
    out: Out = _DEFAULT_OUT,
    port: Port = 8765,
    web: Annotated[Path | None, typer.Option(help="The web's folder, when it is not OUT/web.")] = None,
    piped: Annotated[bool, typer.Option("--piped", hidden=True)] = False,
) -> None:
    """Serve the web until Ctrl-C; open http://localhost:8765/ in a browser.

    Example: python -m openwit.workflows.demo serve --out out/demo --port 8765
    """
    run_server(web or out / "web", port, piped)


@app.command("crawl")
def crawl_command(out: Out = _DEFAULT_OUT, port: Port = 8765) -> None:
    """Crawl the served web into OUT/crawl as WARC files.

    Example: python -m openwit.workflows.demo crawl --out out/demo --port 8765
    """
    _report_crawl(crawl(out / "crawl", port), out)


@app.command("all")
def all_command(out: Out = _DEFAULT_OUT, port: Port = 8765, concepts: Concepts = None, fresh: Fresh = False) -> None:
    """Make the web, serve it, crawl it and stop serving.

    Example: python -m openwit.workflows.demo all --out out/demo
    """
    print(make_inputs(out, concepts, fresh=fresh))
    with serving(out / "web", port) as bound:
        crawled = crawl(out / "crawl", bound)
    _report_crawl(crawled, out)


@app.command("run")
def run_command(out: Out = _DEFAULT_OUT, port: Port = 8765, concepts: Concepts = None, fresh: Fresh = False) -> None:
    """Run the main job: web, crawl, dataset, training, evaluation.

    Example: python -m openwit.workflows.demo run --out out/demo
    """
    raise typer.Exit(run_demo(out, port, make_console(), concepts=concepts, fresh=fresh))


@app.command("report")
def report_command(
    pages: Annotated[list[Path], typer.Argument(help="Markdown pages with marks to fill.")], out: Out = _DEFAULT_OUT
) -> None:
    """Fill the figures of pages from a finished demo: what is between `<!-- demo: NAME -->` and `<!-- /demo -->`.

    Example: python -m openwit.workflows.demo report README.md docs/demo.md --out out/demo
    """
    result = DemoResult.load(out)
    for page in pages:
        print(f"{page}: {'updated' if update(page, result) else 'current already'}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; bad input ends with one sentence and exit code 2."""
    with user_errors("demo"):
        app(args=arguments)


def _report_crawl(crawls: Sequence[SiteCrawl], out: Path) -> None:
    pages = sum(site.pages for site in crawls)
    refused = sum(len(site.refused) for site in crawls)
    failed = sum(len(site.failed) for site in crawls)
    print(
        f"{out / 'crawl'}: {pages:,} pages of {sum(site.pages > 0 for site in crawls)} sites crawled, "
        f"{refused:,} addresses refused by robots.txt, {failed:,} without an answer"
    )


if __name__ == "__main__":
    main()
