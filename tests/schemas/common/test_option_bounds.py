"""Every number that a command takes as an option has bounds, as every number of a configuration has."""

import typing
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer

from openwit.pipeline.cli.main import app as wit
from openwit.schemas.common.command import run_app
from openwit.training.cli.main import app as wit_train

APPS = {"wit": wit, "wit-train": wit_train}


def further() -> dict[str, typer.Typer]:
    from openwit.workflows.demo.__main__ import app as demo
    from openwit.workflows.figure2.__main__ import app as figure2
    from openwit.workflows.photos.__main__ import app as photos

    return {"demo": demo, "figure2": figure2, "photos": photos}


def commands(app: typer.Typer) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Names and functions of all commands, at any depth."""
    for info in app.registered_commands:
        assert info.callback is not None
        yield info.name or info.callback.__name__, info.callback
    if app.registered_callback is not None and app.registered_callback.callback is not None:
        yield "", app.registered_callback.callback
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from commands(group.typer_instance)


def types_in(annotation: Any) -> set[Any]:
    """A type and all that it is made of."""
    inner = [part for part in typing.get_args(annotation) if isinstance(part, type) or typing.get_args(part)]
    return {annotation}.union(*map(types_in, inner))


def numbers(apps: dict[str, typer.Typer]) -> list[tuple[str, str, str, Any]]:
    """Program, command, name and declaration of each number that is asked for."""
    found = []
    for program, app in apps.items():
        for command, function in commands(app):
            for name, annotation in typing.get_type_hints(function, include_extras=True).items():
                if types_in(annotation) & {int, float}:
                    declared = getattr(annotation, "__metadata__", (None,))[0]
                    found.append((program, command, name, declared))
    return found


def test_numbers_have_bounds() -> None:
    found = numbers({**APPS, **further()})
    assert len(found) > 15
    for program, command, name, declared in found:
        where = f"{program} {command}: {name}"
        assert declared is not None, f"{where} is not declared with Annotated"
        assert declared.min is not None, f"{where} has no lower bound"
        assert declared.max is not None, f"{where} has no upper bound"
        assert declared.clamp is False, f"{where} is changed without a word"


@pytest.mark.parametrize(
    ("program", "command", "name"), [case[:3] for case in numbers(APPS)], ids=[" ".join(c[:3]) for c in numbers(APPS)]
)
@pytest.mark.parametrize("value", [str(10**30), f"-{10**30}", "nan", "inf", "1e400"])
def test_a_number_out_of_bounds_is_one_sentence(
    program: str, command: str, name: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_app(APPS[program], program, arguments=[command, f"--{name.replace('_', '-')}={value}"])
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert f"--{name.replace('_', '-')}" in said.err
