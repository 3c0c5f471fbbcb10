"""The public API: its names, that each exists, and that importing it costs nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import openwit

HEAVY = {"torch", "apache_beam", "numba", "numpy", "pyarrow", "pandas", "pydantic", "typer", "rich", "PIL"}
SOURCE = Path(openwit.__file__)


def run(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    environment = {"PYTHONPATH": str(SOURCE.parents[1]), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_the_names_are_sorted_and_unique() -> None:
    assert openwit.__all__ == sorted(set(openwit.__all__))
    assert {*openwit.__all__} == {*openwit._HOMES, "__version__"}
    assert list(openwit._HOMES) == sorted(openwit._HOMES)


@pytest.mark.parametrize("name", openwit.__all__)
def test_every_name_exists_and_is_documented(name: str) -> None:
    value = getattr(openwit, name)
    assert value.__doc__ or isinstance(value, str)
    assert name in dir(openwit)


def test_type_checkers_see_the_same_names() -> None:
    guarded = next(node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If))
    seen = {
        alias.asname or alias.name: (
            f"{alias.name}:"
            if node.module == "openwit"
            else f"{str(node.module).removeprefix('openwit.')}:{alias.name}"
        )
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == openwit._HOMES


def test_importing_it_loads_nothing_heavy() -> None:
    done = run(f"import sys, openwit; print(sorted({HEAVY} & set(sys.modules)))")
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'openwit' has no attribute 'biuld'"):
        _ = openwit.biuld


def test_a_name_whose_part_is_missing_says_so() -> None:
    code = "import sys; sys.modules['numba'] = None; import openwit; openwit.Matcher"
    done = run(code)
    assert done.stderr.splitlines()[-1].endswith(
        "openwit.Matcher needs the part `build` (numba is not installed): pip install 'openwit[build]'"
    )


def test_the_docstring_draws_every_exception() -> None:
    errors = [name for name in openwit.__all__ if name.endswith("Error")]
    assert all(issubclass(getattr(openwit, name), openwit.OpenWITError) for name in errors)
    assert [name for name in errors if name not in str(openwit.__doc__)] == []


def test_balancing_draws_the_cap_of_each_query() -> None:
    pairs = np.arange(100, dtype=np.uint64)
    queries = openwit.balancing.query_hashes(["kite"]).repeat(100)
    u = openwit.balancing.uniform(pairs, queries, seed=0)
    _, thresholds, _ = openwit.balancing.cap_smallest(np.zeros(100, np.int64), u, 7)
    assert (u <= thresholds[0]).sum() == 7
    assert openwit.balancing.__all__ == sorted(openwit.balancing.__all__)
