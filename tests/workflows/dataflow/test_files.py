"""The image, the template and the scripts: all that can be tested without Docker and Google Cloud."""

import json
import re
import subprocess
from pathlib import Path

import jsonschema
import pytest
import typer

from openwit.pipeline.cli.main import app
from openwit.pipeline.execution.beam_engine import BeamEngine
from openwit.workflows.dataflow import template

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "workflows" / "dataflow"
METADATA = json.loads((FOLDER / "metadata.json").read_text())
# Keys and types of https://cloud.google.com/dataflow/docs/guides/templates/configuring-flex-templates
PARAMETER = {
    "type": "object",
    "required": ["name", "label", "helpText"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
        "label": {"type": "string"},
        "helpText": {"type": "string"},
        "isOptional": {"type": "boolean"},
        "regexes": {"type": "array", "items": {"type": "string", "format": "regex"}},
        "paramType": {"enum": ["TEXT", "GCS_READ_FILE", "GCS_WRITE_FOLDER", "GCS_READ_FOLDER", "GCS_WRITE_FILE"]},
    },
}
SCHEMA = {
    "type": "object",
    "required": ["name", "parameters"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string"},
        "description": {"type": "string"},
        "streaming": {"type": "boolean"},
        "parameters": {"type": "array", "items": PARAMETER},
    },
}
GOOD = {
    "recipe": "gs://bucket/builds/pairs.recipe.yaml",
    "workdir": "gs://bucket/builds/pairs",
    "worker_image": "europe-west4-docker.pkg.dev/project/openwit/worker",
    "dataset": "gs://bucket/pairs",
    "sets": "select.cap=100 shard.samples=5000",
    "beam_flags": "--max_num_workers=50 --no_use_public_ips",
}
BAD = {
    "recipe": "pairs.yaml",
    "workdir": "out/pairs",
    "worker_image": "worker image",
    "dataset": "/data",
    "sets": "select.cap",
    "beam_flags": "max_num_workers=50",
}
OF_LAUNCHER = ["--project=p", "--region=r", "--temp_location=gs://bucket/tmp", "--job_name=j"]


def test_the_metadata_is_what_google_documents():
    jsonschema.validate(METADATA, SCHEMA, format_checker=jsonschema.FormatChecker())
    assert [each["name"] for each in METADATA["parameters"]] == list(GOOD)


@pytest.mark.parametrize("parameter", METADATA["parameters"], ids=lambda each: each["name"])
def test_values_are_accepted_and_refused(parameter):
    (regex,) = parameter["regexes"]
    assert re.fullmatch(regex, GOOD[parameter["name"]])
    assert not re.fullmatch(regex, BAD[parameter["name"]])


def parsed(**parameters):
    arguments = [f"--{name}={value}" for name, value in parameters.items()]
    return template.parse([*arguments, *OF_LAUNCHER])


@pytest.mark.parametrize("optional", [True, False])
def test_the_template_starts_a_command_that_exists(optional):
    parameters, options = parsed(**(GOOD if optional else dict(list(GOOD.items())[:3])))
    words = template.command(parameters, Path("recipe.yaml"))
    build = typer.main.get_command(app).commands["build"]
    context = build.make_context("build", words[1:])
    assert context.params["runner"] == "dataflow"
    BeamEngine("dataflow", flags=context.args)
    assert "--temp_location=gs://bucket/tmp" in context.args
    assert f"--sdk_container_image={GOOD['worker_image']}" in context.args
    own = options.get_all_options()
    assert (own["max_num_workers"], own["job_name"]) == (1, "j")


def test_the_step_runs_the_build_and_fails_with_it(monkeypatch, tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("name: a\n")
    parameters, _ = parsed(recipe=recipe, workdir="w", worker_image="i")
    ran = []

    def run(words, **_):
        ran.append((words[3:5], Path(words[4]).read_text()))
        return subprocess.CompletedProcess(words, len(ran) - 1, "said")

    monkeypatch.setattr(template.subprocess, "run", run)
    list(template.RunBuild().process(parameters))
    assert ran[0][0][0] == "build"
    assert ran[0][1] == "name: a\n"
    with pytest.raises(RuntimeError, match="wit build ended with 1: said"):
        list(template.RunBuild().process(parameters))


@pytest.mark.parametrize("script", sorted(FOLDER.glob("*.sh")), ids=lambda path: path.name)
def test_the_scripts_are_shell_and_name_flags_that_exist(script):
    for shell in ("sh", "bash"):
        subprocess.run([shell, "-n", str(script)], check=True)
    assert script.stat().st_mode & 0o111
    short = subprocess.run([str(script), "only-one"], capture_output=True, text=True, check=False)
    assert short.returncode == 2
    assert short.stderr.startswith("usage: ")
    text = script.read_text().replace("\\\n", " ")
    build = typer.main.get_command(app).commands["build"]
    for line in re.findall(r"^\s*(?:exec )?wit build (.*)$", text, re.MULTILINE):
        words = re.sub(r'"\$@"', "", line).replace('"', "").split()
        context = build.make_context("build", words)
        BeamEngine("dataflow", flags=context.args)
    for name in re.findall(r"--parameters \"(?:\^;\^)?(\w+)=", text):
        assert name in GOOD


def test_the_launch_checks_before_it_starts(tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("wit", "gcloud"):
        lines = ["#!/bin/sh", f'echo {name} "$@" >> {tmp_path}/ran', "exit ${CODE:-0}"]
        (tools / name).write_text("\n".join(lines))
        (tools / name).chmod(0o755)

    def launch(**environment):
        (tmp_path / "ran").unlink(missing_ok=True)
        command = [str(FOLDER / "launch.sh"), "p", "r", "gs://bucket", "my/pairs.yaml", "--max_num_workers=5"]
        path = {"PATH": f"{tools}:/usr/bin:/bin", **environment}
        done = subprocess.run(command, env=path, check=False, capture_output=True, text=True)
        return done.returncode, (tmp_path / "ran").read_text().splitlines()

    code, ran = launch()
    assert code == 0, ran
    assert ["--check" in ran[0], ran[1].split()[:3], "workdir=gs://bucket/builds/pairs" in ran[2]] == [
        True,
        ["gcloud", "storage", "cp"],
        True,
    ]
    assert "beam_flags=--max_num_workers=5" in ran[2]
    code, ran = launch(CODE="2")
    assert (code, len(ran)) == (2, 1)
    code, ran = launch(DRIVER="here")
    assert (code, len(ran)) == (0, 2)
    assert "--check" not in ran[1]


def test_the_image_copies_what_is_there():
    text = (FOLDER / "Dockerfile").read_text().replace("\\\n", " ")
    copied = [line.split()[1:-1] for line in text.splitlines() if line.startswith("COPY ") and "--from" not in line]
    for path in (path for paths in copied for path in paths):
        assert (ROOT / path).exists(), path
    linked = {path.readlink().name for path in (ROOT / "src" / "openwit").iterdir() if path.is_symlink()}
    assert linked <= {path for paths in copied for path in paths}
    assert "python -m openwit.pipeline.check.compile_ahead" in text
    launched = re.search(r"FLEX_TEMPLATE_PYTHON_PY_FILE=(\S+)", text).group(1)
    assert f"COPY workflows/dataflow/template.py {launched}" in text
