import pytest
from support.rows import candidate

from openwit.pipeline.stages.select import Select
from openwit.pipeline.stages.select.settings import SelectSettings
from openwit.pipeline.text.matching import matcher as matching
from openwit.schemas.tables.candidates import SELECTED

TEXTS = ["a dog in the snow", "hot dog, caf\u00e9", "nothing", "\u732b and dog", "snow \u2603 dog"]


@pytest.fixture
def builds(monkeypatch):
    """The sizes of the lists of which an index is built."""
    counted, build = [], matching.build_index
    monkeypatch.setattr(
        matching, "build_index", lambda rows, empty: counted.append(len(rows.starts)) or build(rows, empty)
    )
    return counted


@pytest.mark.parametrize("match", ["words", "metaclip"])
def test_many_files_share_one_index_and_select_what_one_by_one_selects(
    job, make_candidates, make_queries, tmp_path, builds, match, monkeypatch
):
    monkeypatch.setattr("openwit.pipeline.stages.select.stage._check_match", lambda *_: None)  # a list for either way
    rows = [candidate(f"http://a.example/{n}.jpg", TEXTS[n % len(TEXTS)]) for n in range(40)]
    queries = make_queries(tmp_path / "q", ["dog", "hot dog", "snow"])
    inputs = {"candidates": make_candidates(tmp_path / "c", [rows[:20], rows[20:]]), "queries": queries}
    # A shared index that no worker can use: each builds its own.
    with monkeypatch.context() as patch:
        patch.setattr("openwit.pipeline.stages.select.match.share_matcher", lambda *_: None)
        alone, _ = Select().run(job, SelectSettings(match=match), inputs, tmp_path / "alone")
    builds.clear()
    shared, _ = Select().run(job, SelectSettings(match=match), inputs, tmp_path / "shared")
    assert builds == [2, 3]  # the compiled example, and the list once
    assert shared == alone
    files = sorted((tmp_path / "shared" / "selected").iterdir())
    assert sum(SELECTED.read(path).num_rows for path in files) > 0
    assert not list((tmp_path / "shared" / ".stage").glob("*.index"))
