from pathlib import Path

import pytest
from fuzz import run

DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is missing")
def test_damaged_inputs_never_crash_a_reader_and_always_add_up():
    rounds, failures = run(DATA, seconds=6, seed=0, keep=None)
    assert failures == []
    assert min(rounds.values()) > 3
