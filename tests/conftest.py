"""Settings of the whole suite."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

# Before torch and numpy are imported. Tests run side by side, and threads of small models that share a core with
# others mostly wait for each other: 90 s instead of 2 for a test on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

# A deadline is a timed assertion: compiled code is compiled in the first example, and machines are busy.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


# Which marks a run of marked tests asks for (the Makefile's two); a file that has none of them need not be loaded.
_MARKED = {"slow and not engines": "mark.slow", "engines": "mark.engines"}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves out files that have no test of the kind asked for: to import all of them takes half a minute."""
    mark = _MARKED.get(config.option.markexpr)
    if mark is None or not (collection_path.name.startswith("test_") and collection_path.suffix == ".py"):
        return None
    return True if mark not in collection_path.read_text(encoding="utf-8") else None


@pytest.fixture(autouse=True)
def _handlers_of_logs() -> Iterator[None]:
    """Commands show messages by a handler of the root logger: it must not outlive the test that ran one."""
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    root.handlers[:] = [handler for handler in root.handlers if handler in before]
