"""The fixtures of the model wing: a small dataset, and settings to train on it in seconds."""

import importlib.util
import sys
from pathlib import Path

_SPEC = importlib.util.spec_from_file_location(
    "training_fixtures", Path(__file__).parents[2] / "training" / "conftest.py"
)
assert _SPEC is not None
assert _SPEC.loader is not None
_FIXTURES = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = _FIXTURES
_SPEC.loader.exec_module(_FIXTURES)

dataset, configure, factory = _FIXTURES.dataset, _FIXTURES.configure, _FIXTURES.factory
