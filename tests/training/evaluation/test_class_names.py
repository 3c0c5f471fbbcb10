from pathlib import Path

import pytest

from openwit.schemas.common.errors import OpenWITError
from openwit.training.evaluation.class_names import names_of_folders, read_class_names
from openwit.training.evaluation.classification_data import open_classification
from openwit.training.evaluation.classification_readers import LabelledData

CASES = Path(__file__).parents[2] / "data" / "cases" / "eval-prompt-files"


def names(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "names.txt"
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["tench", "goldfish"], ["tench", "goldfish"]),
        (["0 tench", "1 goldfish"], ["tench", "goldfish"]),
        (["1: tench", "2: goldfish"], ["tench", "goldfish"]),
        (["0,tench", "1,goldfish"], ["tench", "goldfish"]),
        (["7 up", "3 musketeers"], ["7 up", "3 musketeers"]),
        (["'tench',", "'goldfish',"], ["tench", "goldfish"]),
        (["{0: 'tench, Tinca tinca',", " 1: 'goldfish'}"], ["tench, Tinca tinca", "goldfish"]),
    ],
)
def test_lists_as_people_have_them(lines: list[str], found: list[str], tmp_path: Path) -> None:
    assert read_class_names(names(tmp_path, *lines)) == found
    assert read_class_names(CASES / "quoted_classes.txt") == ["tench", "goldfish"]


@pytest.mark.parametrize(
    ("folders", "lines", "found"),
    [
        (["0", "1", "2"], ["a", "b", "c"], ["a", "b", "c"]),
        (["00", "02"], ["a", "b", "c"], ["a", "c"]),
        (["1", "2", "10"], list("abcdefghijk"), ["b", "c", "k"]),
        (["1", "2", "3"], ["a", "b", "c"], ["a", "b", "c"]),
        (["cat", "dog"], ["dog", "cat", "owl"], ["cat", "dog"]),
        (["red_fox", "owl"], ["Owl", "red fox"], ["red fox", "Owl"]),
        (["n01440764", "n01443537"], ["tench", "goldfish"], ["tench", "goldfish"]),
        (["n01443537", "n01440764"], ["n01440764 tench", "n01443537 goldfish"], ["goldfish", "tench"]),
    ],
)
def test_folders_find_their_names(folders: list[str], lines: list[str], found: list[str], tmp_path: Path) -> None:
    by_number, numbers, note = names_of_folders(folders, names(tmp_path, *lines), tmp_path)
    assert [by_number[number] for number in numbers] == found
    assert "names.txt" in note


@pytest.mark.parametrize(
    ("folders", "lines", "message"),
    [
        (["0", "5"], ["a", "b", "c"], "numbered up to 5"),
        (["1", "3"], ["a", "b", "c"], "numbered up to 3"),
        (["1", "01"], ["a", "b"], "the same number"),
        (["a", "b"], ["x", "y", "z"], "names 3 classes, but .* has 2"),
        (["cat", "dog"], ["dog", "owl"], "has the folder dog of .* on line 1, though it is number 2"),
        (["a", "b"], ["n01440764", "n01443537"], "WordNet ids"),
    ],
)
def test_a_list_that_cannot_be_right_is_refused(
    folders: list[str], lines: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(OpenWITError, match=message):
        names_of_folders(folders, names(tmp_path, *lines), tmp_path)


@pytest.mark.parametrize("beside", [True, False])
def test_a_list_for_numeric_folders_is_matched_by_number(beside: bool, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for number in (0, 1, 2, 10):
        (folder / str(number)).mkdir(parents=True)
        (folder / str(number) / "x.jpg").write_bytes(b"%d" % number)
        (folder / str(number) / "._x.jpg").write_bytes(b"mac")
    lines = tmp_path / "names.txt"
    lines.write_text("\n".join(f"class {number}" for number in range(11)))
    if beside:
        lines = lines.rename(folder / "classnames.txt")
    found = open_classification(LabelledData(folder, classes=None if beside else lines))
    images = {found.sample(n).image: found.classes[found.sample(n).label] for n in range(len(found))}
    assert images == {b"0": "class 0", b"1": "class 1", b"2": "class 2", b"10": "class 10"}
    assert found.notes == (f"the folders of {folder} are numbers: lines of {lines}, from 0",)


def test_numeric_folders_without_a_list_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (0, 2, 10):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "x.jpg").write_bytes(b"%d" % number)
    assert open_classification(LabelledData(tmp_path)).classes == ("0", "2", "10")
