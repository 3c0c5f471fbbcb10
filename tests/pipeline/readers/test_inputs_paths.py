"""A path that exists is itself before it is a pattern, and a folder is read."""

import logging
from pathlib import Path

import pytest
from support.serial_engine import SerialEngine

from openwit.pipeline.execution.stage import Job
from openwit.pipeline.readers.inputs import expand_inputs
from openwit.pipeline.stages.candidates import Candidates
from openwit.pipeline.stages.candidates.settings import CandidateSettings
from openwit.pipeline.stages.candidates.stage import input_files
from openwit.schemas.common.errors import DataError

CASES = Path(__file__).parents[2] / "data" / "cases"
NAMES = ["my data [v2]", "a*b", "what?", "[ab]", "ü {1,2}", "(x)"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("as_folder", [False, True])
def test_a_path_that_exists_is_itself(tmp_path, name, as_folder):
    folder = tmp_path / name
    folder.mkdir()
    (folder / f"{name}.csv").write_text("url,text\n")
    asked = folder if as_folder else folder / f"{name}.csv"
    assert expand_inputs([str(asked)], "candidates.inputs") == [str(folder / f"{name}.csv")]


def test_a_pattern_is_still_a_pattern(tmp_path):
    for name in ("a1.csv", "a2.csv", "b.csv"):
        (tmp_path / name).write_text("url,text\n")
    assert [Path(name).name for name in expand_inputs([f"{tmp_path}/a[12].csv"], "k")] == ["a1.csv", "a2.csv"]


def test_the_files_of_a_folder_are_read_and_others_are_said(tmp_path, caplog):
    for name in (
        "b/x.csv",
        "a/split=test/y.parquet",
        "a/_SUCCESS",
        ".hidden.csv",
        "a/_metadata",
        "notes.md",
        "c.warc.gz",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    with caplog.at_level(logging.WARNING):
        found = input_files(CandidateSettings(inputs=[str(tmp_path)]))
    assert [str(Path(name).relative_to(tmp_path)) for name in found] == [
        "a/split=test/y.parquet",
        "b/x.csv",
        "c.warc.gz",
    ]
    assert "candidates.inputs: 1 of other kinds" in caplog.text
    assert "notes.md" in caplog.text


@pytest.mark.parametrize(
    ("names", "message"), [([], "is empty"), (["a.md"], "holds 1 file of other kinds only, such as .*a.md")]
)
def test_a_folder_without_inputs_is_one_sentence(tmp_path, names, message):
    for name in names:
        (tmp_path / name).write_text("")
    with pytest.raises(DataError, match=message):
        input_files(CandidateSettings(inputs=[str(tmp_path)]))


def test_the_case_with_brackets():
    case = CASES / "path-with-brackets" / "my data [v2]"
    assert expand_inputs([str(case / "pairs.parquet")], "k") == [str(case / "pairs.parquet")]
    assert len(expand_inputs([str(case)], "k")) == 3


@pytest.mark.parametrize("name", ["urls.txt", "urls.txt.gz", "list.lst"])
def test_a_list_of_urls_is_told_what_is_needed(tmp_path, name):
    (tmp_path / name).write_text("http://a.example/1.jpg\n")
    settings = CandidateSettings(inputs=[str(tmp_path / name)])
    assert input_files(settings) == settings.inputs
    with pytest.raises(DataError, match=r"is a list of URLs without texts: set candidates\.texts_required to false"):
        Candidates().run(Job(SerialEngine()), settings, {}, tmp_path / "out")
