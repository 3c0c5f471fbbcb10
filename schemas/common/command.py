"""What every command does alike: a user's error is one sentence and exit code 2, an interrupt says how to go on."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from openwit.schemas.common.errors import OpenWITError

BAD_INPUT = 2
INTERRUPTED = 130


@contextmanager
def user_errors(command: str) -> Iterator[None]:
    """Turns a OpenWITError into its sentence on stderr and exit code 2, an interrupt into a hint and exit code 130."""
    try:
        yield
    except OpenWITError as error:
        print(f"{command}: {error}", file=sys.stderr)
        raise SystemExit(BAD_INPUT) from None
    except KeyboardInterrupt:
        print(f"\n{command}: stopped; run the same command to go on where it was", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def entry_point(app: typer.Typer, command: str) -> Callable[[], None]:
    """The `main` of a command line."""

    def main() -> None:
        with user_errors(command):
            app(prog_name=command)

    return main
