"""Every command that the documentation shows exists, with the flags that it shows."""

import re
import tomllib

import click
import pytest
import typer
from support.doc_pages import ROOT, Block, blocks, pages, words

SHELL = [block for page in pages() for block in blocks(page) if block.language == "sh"]
PLAIN = (
    "cd",
    "ls",
    "mkdir",
    "git",
    "tensorboard",
    "source",
    "mkdocs",
    "pre-commit",
    "ruff",
    "mypy",
    "pytest",
    "ray",
    "srun",
    "gcloud",
)


def command_of(name: str) -> click.Command:
    if name == "wit":
        from openwit.pipeline.cli.main import app
    elif name == "wit-train":
        from openwit.training.cli.main import app
    else:
        import importlib

        app = importlib.import_module(f"{name}.__main__").app
    return typer.main.get_command(app)


def check(name: str, arguments: list[str]) -> None:
    """Parses arguments as the command would, without running it."""
    # Whoever installed the package has no checkout beside it: `wit init` copies what a page needs.
    inside = [word for word in arguments if word.startswith(("workflows/", "tests/", "benchmarks/", "pipeline/"))]
    assert not inside, f"{name}: {inside} lies in the repository, not in the package"
    command = command_of(name)
    if arguments in (["--help"], ["--version"]):
        return
    context = click.Context(command, info_name=name)
    if isinstance(command, click.Group):
        found = command.get_command(context, arguments[0])
        assert found is not None, f"{name} has no command {arguments[0]!r}"
        command, arguments = found, arguments[1:]
    if arguments == ["--help"]:
        return
    command.make_context(command.name, list(arguments), resilient_parsing=False)


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_the_flags_exist(block: Block) -> None:
    for command in block.commands():
        given = words(command)
        while given and re.fullmatch(r"[A-Z_]+=.*", given[0]):
            given = given[1:]
        first = given[0].removeprefix(".venv/bin/")
        if first in ("wit", "wit-train"):
            check(first, given[1:])
        elif first in ("torchrun", "srun") and "openwit.training" in given:
            check("wit-train", given[given.index("openwit.training") + 1 :])
        elif first in ("python", "python3") and given[1:2] == ["-m"]:
            module = given[2]
            if module in ("openwit.pipeline", "openwit.training"):
                check({"openwit.pipeline": "wit", "openwit.training": "wit-train"}[module], given[3:])
            elif module.startswith("openwit."):
                check(module, given[3:])
        elif first == "make":
            targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert not [word for word in given[1:] if "=" not in word and word not in targets], command
        elif first == "pip":
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            for listed in re.findall(r"openwit\[([\w,]+)\]", command):
                assert set(listed.split(",")) <= set(extras), command
        else:
            assert first in PLAIN or (ROOT / first).exists(), f"{block}: what is {first!r}?"


def test_every_block_of_commands_is_marked_as_such() -> None:
    stray = [
        f"{block}: {line}"
        for page in pages()
        for block in blocks(page)
        if block.language == ""
        for line in block.text.splitlines()
        if re.match(r"(wit|wit-train|make|pip|torchrun|srun|python3?) ", line)
    ]
    assert not stray, "fence these as sh: " + "; ".join(stray)
