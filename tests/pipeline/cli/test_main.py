"""The help of every command, wrong flags, and messages that are shown once."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from openwit.pipeline.build import BuildResult
from openwit.pipeline.cli.main import app, main
from openwit.pipeline.cli.progress import Pace, progress_note
from openwit.pipeline.cli.report import print_build, print_steps
from openwit.pipeline.execution.progress import JobProgress
from openwit.pipeline.stages import STAGES
from openwit.schemas.common.command import make_console
from openwit.schemas.manifest import DatasetManifest, FunnelStep

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def wit(arguments, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["wit", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    return ended.value.code or 0, printed.out, printed.err


def test_every_stage_is_a_command_and_every_command_has_one_whole_line(capsys, monkeypatch):
    assert set(STAGES) <= set(COMMANDS)
    code, out, _ = wit(["--help"], capsys, monkeypatch)
    assert code == 0
    listed = dict(re.findall(r"^  ([a-z]+) +([A-Z].+\.)$", out.partition("Commands:\n")[2], re.MULTILINE))
    assert set(listed) == set(COMMANDS)
    assert not any(line.endswith("...") for line in listed.values())
    assert "Examples:\n    wit demo " in out
    assert "--install-completion" in out


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_is_in_one_style(name, capsys, monkeypatch):
    command = COMMANDS[name]
    code, out, _ = wit([name, "--help"], capsys, monkeypatch)
    assert code == 0
    assert re.search(rf"Examples?:\n    wit {name}\b", out)
    first = command.help.partition("\n")[0]
    assert first[0].isupper()
    assert first.endswith(".")
    assert not first.partition(" ")[0].endswith("s")
    for parameter in command.params:
        assert parameter.help is None or (parameter.help[0].isupper() and parameter.help.endswith(".")), parameter.name
    for line in command.epilog.splitlines()[2:]:
        assert f"    {line.strip()}" in out  # whole: not wrapped


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["select", "--balance", "x"], "wit select: invalid value for '--balance': 'x' is not one of 'cap', 'prob"),
        (["select", "--match", "x"], "wit select: invalid value for '--match': 'x' is not one of 'words', 'metac"),
        (["redraw", "--runner", "x"], "wit redraw: invalid value for '--runner': 'x' is not one of 'local', 'ray',"),
        (["queries", "--limit", "0"], "wit queries: invalid value for '--limit': "),
        (["fetch", "--bogus"], "wit fetch: no such option: --bogus"),
        (["verify"], "wit verify: missing argument 'DATASET'"),
        (["selct"], "wit: no such command 'selct'"),
    ],
)
def test_a_wrong_flag_or_value_is_one_sentence(arguments, sentence, capsys, monkeypatch):
    code, out, err = wit(arguments, capsys, monkeypatch)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(sentence)


def test_no_command_prints_the_help_and_a_closed_pipe_is_silent(capsys, monkeypatch):
    code, out, err = wit([], capsys, monkeypatch)
    assert (code, err) == (2, "")
    assert "Commands:" in out
    command = f"{sys.executable} -m openwit.pipeline --help | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("Usage: wit [OPTIONS] COMMAND [ARGS]...\n", "")


def test_messages_of_the_library_are_shown_once_and_of_others_errors_only():
    code = """
import logging
from rich.console import Console
from openwit.pipeline.cli.options import show_library_messages
show_library_messages(Console())
show_library_messages(Console())
logging.warning("root's warning")  # adds a handler where there is none
logging.getLogger("openwit.pipeline.x").warning("compiling")
logging.getLogger("other").warning("chatter")
logging.getLogger("other").error("trouble")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("  compiling\n", "other: trouble\n")


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path, capsys, monkeypatch):
    code, _, err = wit(["remove", tmp_path, "--list", tmp_path], capsys, monkeypatch)
    assert (code, err.count("\n")) == (2, 1)
    assert str(tmp_path) in err


def test_names_are_printed_as_they_are(capsys):
    """A path may hold what rich would take for markup, in lines and in tables."""
    folder = "out/ü [x] [bold]b"
    dataset = DatasetManifest(
        name="birds [red]", recipe={}, tools={}, funnel=[], notes={}, tables=[], shards=[], description=""
    )
    console = make_console()
    print_build(console, BuildResult(steps=[], dataset=dataset, where=folder, seconds=1.0))
    print_steps(console, [FunnelStep(stage="[i]mine", unit="images", rows_in=1, rows_out=1)])
    out = capsys.readouterr().out
    assert out.count(folder) == 2
    assert "[i]mine" in out


def test_a_progress_line_says_nothing_before_there_is_evidence() -> None:
    pace = Pace()
    assert pace.rate_and_left(0, 0, 0) == (None, None)
    assert pace.rate_and_left(10, 500, 0.9) == (None, None)  # what was done before, or in the first moments
    assert pace.rate_and_left(12, 700, 0.91) == (None, None)
    assert pace.rate_and_left(20, 1500, 0.9) == (100, None)
    rate, left = pace.rate_and_left(30, 2500, 0.95)
    assert (rate, round(left or 0)) == (100, 20)
    assert pace.rate_and_left(40, 2500, 1.0)[1] is None


def test_a_stuck_job_has_no_rate(tmp_path: Path) -> None:
    snapshot = JobProgress(tmp_path, ["a"]).look()
    snapshot.reasons.update({"dns_failed": 5, "timeout": 2000, "too_small": 1, "http_gone": 7})
    note = progress_note(snapshot, 1, "images", Pace(), 0.0)
    assert note == "0/1 files; 2,013 dropped: timeout 2,000, http_gone 7, dns_failed 5, …"
