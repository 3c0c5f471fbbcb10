"""Wrap commands: errors become one sentence, `--version` prints it, unsupported systems are rejected."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from openwit import __version__
from openwit.schemas.common.errors import OpenWITError, RecipeError
from openwit.schemas.common.output import discard, guarded_output
from openwit.schemas.common.parts import Part, importing, refuse_unsupported_system
from openwit.schemas.common.printable import printable
from openwit.schemas.common.settings_reference import SettingInfo, find_settings, listing
from openwit.schemas.common.stopping import REMEDY, received_signal, stoppable
from openwit.schemas.common.storage_faults import sentence_of, storage_error

BAD_INPUT = 2
INTERRUPTED = 130
# Typer's own class, or click's for a Typer that is built on it.
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]


class _StoppedExit(SystemExit):
    """The end of a command that a signal stopped."""


@contextmanager
def user_errors(command: str, part: Part = "build") -> Iterator[None]:
    """Turn an OpenWITError into its sentence on stderr and exit code 2, a signal into a hint and 128 + its number.

    What the system refuses (an OSError: a full disk, a file that cannot be read) is reported like an OpenWITError.

    Args:
        command: the name that begins the sentence.
        part: the extra to name if the missing module is in several extras.
    """
    try:
        with _stoppable(command):
            refuse_unsupported_system()
            with importing("this command", part):
                yield
    except OpenWITError as error:
        _fail(command, str(error))
    except BrokenPipeError:
        # The reader of the output, such as `head`, has ended. Python would complain when it flushes stdout at exit.
        discard(sys.stdout)
        raise SystemExit(1) from None
    except OSError as error:
        _fail(command, sentence_of(error))
    except KeyboardInterrupt:
        _tell(command, REMEDY)
        raise SystemExit(INTERRUPTED) from None
    except Exception as error:
        # Libraries that keep only the text of a fault of the disk.
        found = storage_error(error)
        if found is None:
            raise
        _fail(command, str(found))


@contextmanager
def _stoppable(command: str) -> Iterator[None]:
    """End the command if a signal was received, whatever became of the signal's exception."""
    with stoppable(command):
        try:
            yield
        finally:
            received = received_signal()
            if received is not None:
                _tell(command, REMEDY)
                raise _StoppedExit(128 + received) from None


def _tell(command: str, sentence: str) -> None:
    # A terminal shows ^C where the cursor was.
    print(f"{chr(10) if sys.stderr.isatty() else ''}{command}: {sentence}", file=sys.stderr)


def _fail(command: str, sentence: str) -> None:
    print(f"{command}: {printable(' '.join(sentence.split()))}", file=sys.stderr)
    raise SystemExit(BAD_INPUT) from None


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"openwit {__version__}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
]
"""The option of every command line's callback."""


def path_or_url(text: Any) -> Path:
    """Read a path that a command takes, or the URL of one in a store; the parser of an option.

    Raises:
        BadParameter: the URL cannot be used.
    """
    from openwit.schemas.common.storage.store_path import as_path  # `--help` needs no store

    try:
        return as_path(text)
    except RecipeError as error:
        raise typer.BadParameter(str(error)) from None


def examples(*lines: str) -> str:
    """Return the end of a command's help: example commands, one per line, which are not re-wrapped."""
    title = "Example:" if len(lines) == 1 else "Examples:"
    return "\n".join(["\b", title, *(f"  {line}" for line in lines)])


def run_app(app: typer.Typer, command: str, *, part: Part = "build", arguments: Sequence[str] | None = None) -> None:
    """Run a command line and exit; a wrong flag or value ends in one sentence and exit code 2.

    Args:
        command: its name, for messages.
        part: as for `user_errors`.
        arguments: instead of those of the process.

    Raises:
        SystemExit: always.
    """
    with user_errors(command, part), guarded_output():
        try:
            code = app(args=arguments, prog_name=command, standalone_mode=False)
        except _UsageError as error:
            _explain_usage(command, error)
        except typer.Abort:
            raise KeyboardInterrupt from None
    raise SystemExit(code if isinstance(code, int) else 0)


def _explain_usage(command: str, error: Exception) -> None:
    context = getattr(error, "ctx", None)
    path = command if context is None else context.command_path
    if type(error).__name__ == "NoArgsIsHelpError":
        print(context.get_help() if context is not None else error, flush=True)
        raise SystemExit(BAD_INPUT) from None
    message = " ".join(error.format_message().split())  # type: ignore[attr-defined]
    message = message.removeprefix("Invalid value: ").rstrip(".")
    message = message.replace("Value error, ", "").replace("': Input", "': input")
    _fail(path, f"{message[:1].lower()}{message[1:]} (see {path} --help)")


def entry_point(app: typer.Typer, command: str) -> Callable[[], None]:
    """Return the `main` function of a command."""

    def main() -> None:
        with ending_when_stopped():
            run_app(app, command)

    return main


@contextmanager
def ending_when_stopped() -> Iterator[None]:
    """End the process with the block if a signal stopped it: Python would wait for threads that still work."""
    try:
        yield
    except _StoppedExit as stopped:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(stopped.code if isinstance(stopped.code, int) else INTERRUPTED)


class SafeConsole(Console):
    """A console that shows control characters instead of sending them to the terminal, its own apart."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print; see rich."""
        super().print(*(printable(one, lines=True) if isinstance(one, str) else one for one in objects), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render; whatever was put into tables, bars and texts comes through here."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control else Segment(printable(text, lines=True), style)


def make_console(*, stderr: bool = False) -> Console:
    """Make the console of a command. It prints names and texts as they are: `[x]` in a path is no markup."""
    return SafeConsole(markup=False, stderr=stderr)


def print_settings(
    settings: Sequence[SettingInfo], key: str | None, *, schema: Callable[[], dict[str, Any]] | None = None
) -> None:
    """Print a list of settings, or JSON Schema instead.

    Args:
        settings: all settings of the command.
        key: print only those below a key or with a word; see `find_settings`.
        schema: makes the schema to print.

    Raises:
        RecipeError: no setting fits the key.
    """
    if schema is not None:
        print(json.dumps(schema(), indent=2))
        return
    print(listing(find_settings(settings, key), min(make_console().width, 120)))
