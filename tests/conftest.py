"""Settings of the whole suite."""

import logging
from collections.abc import Iterator

import pytest
from hypothesis import settings

# A deadline is a timed assertion: compiled code is compiled in the first example, and machines are busy.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _handlers_of_logs() -> Iterator[None]:
    """Commands show messages by a handler of the root logger: it must not outlive the test that ran one."""
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    root.handlers[:] = [handler for handler in root.handlers if handler in before]
