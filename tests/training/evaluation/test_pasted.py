import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openwit.schemas.common.errors import OpenWITError
from openwit.training.evaluation.pasted import read_lines

TEXTS = st.lists(
    st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=12),
    min_size=2,
    max_size=5,
)


def read(tmp_path: Path, content: str) -> list[str]:
    path = tmp_path / "list.txt"
    path.write_text(content)
    return [text for _, text in read_lines(path)]


@settings(max_examples=60, deadline=None)
@given(texts=TEXTS)
def test_a_list_of_any_code_gives_its_texts(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("pasted")
    for content in (
        json.dumps(texts),
        json.dumps(texts, indent=1, ensure_ascii=False),
        json.dumps({"name": texts}),
        repr(texts),
        f"templates = {texts!r}\n",
        "templates = [\n" + "".join(f"    {text!r},\n" for text in texts) + "]\n",
        "".join(f"    {text!r},\r\n" for text in texts),
        "".join(f"{text!r}\n" for text in texts),
        ",\n".join(f"    lambda c: {text!r}" for text in texts),
        repr(dict(enumerate(texts))),
        json.dumps(dict(enumerate(texts))),
    ):
        assert read(folder, content) == texts, content


@pytest.mark.parametrize(
    "content",
    ["tench\ngoldfish", "it's\n'tis", "a {}, b", "don't, \nwon't,", "{}", "3\n4", 'a "{}" b', "x = {}", "# 1"],
)
def test_plain_lines_stay_as_they_are(content: str, tmp_path: Path) -> None:
    assert read(tmp_path, content) == [line.strip() for line in content.split("\n")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a {}\n'a photo of {}',\n", "line 2: .* looks like code"),
        ("lambda c: 'a ' + c,\nlambda c: 'b ' + c,", "line 1: .* looks like code"),
        ("[\n'a {}'.format(c),\n]", "line 1: .* looks like code"),
        ('{"a": ["{}"], "b": ["{}"]}', "2 lists by name"),
        ('{"1": "a", "2": "b"}', "not from 0 without gaps"),
        ('[["a"]]', "not a list of texts"),
        ("lambda c: f'{d}',\n", "looks like code"),
    ],
)
def test_code_that_is_no_list_is_refused_with_its_line(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(OpenWITError, match=message):
        read(tmp_path, content)
