"""Wrap commands: errors become one sentence, `--version` prints it, unsupported systems are rejected."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from openwit import __version__
from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.common.parts import Part, importing, refuse_unsupported_system

BAD_INPUT = 2
INTERRUPTED = 130


@contextmanager
def user_errors(command: str, part: Part = "build") -> Iterator[None]:
    """Turn an OpenWITError into its sentence on stderr and exit code 2, an interrupt into a hint and exit code 130.

    Args:
        command: the name that begins the sentence.
        part: the extra that is named where a module that several extras bring is missing.
    """
    try:
        refuse_unsupported_system()
        with importing("this command", part):
            yield
    except OpenWITError as error:
        print(f"{command}: {error}", file=sys.stderr)
        raise SystemExit(BAD_INPUT) from None
    except KeyboardInterrupt:
        print(f"\n{command}: stopped; run the same command to resume", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"openwit {__version__}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
]
"""The option of every command line's callback."""


def entry_point(app: typer.Typer, command: str) -> Callable[[], None]:
    """Return the `main` function of a command."""

    def main() -> None:
        with user_errors(command):
            app(prog_name=command)

    return main
