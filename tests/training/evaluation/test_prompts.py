from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.schemas.common.errors import OpenWITError
from openwit.training.evaluation.prompts import CIFAR10, NAMED, filled, read_prompts


def test_the_named_ones() -> None:
    assert read_prompts("paper") == ("A photo of a {label}.",)
    assert len(set(CIFAR10)) == 18
    assert CIFAR10[2] == "a black and white photo of a {label}."
    assert CIFAR10[-1] == "a photo of the big {label}."
    assert all(filled(template, "cat").count("cat") == 1 for templates in NAMED.values() for template in templates)


@given(st.text())
def test_a_name_is_put_in_once_whatever_it_holds(label: str) -> None:
    for template in ("a {label}!", "a {}!", "a {c}!"):
        assert filled(template, label) == f"a {label}!"


def test_a_file_of_templates(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("\ufeffart of a {}.\r\n\n  a {label} in snow \n")
    assert read_prompts(str(path)) == ("art of a {}.", "a {label} in snow")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a photo of a {}.\na photo", "line 2: 'a photo' has no {label}"),
        (b"\n\n", "holds no templates"),
        (b"{}\x00\x01", "is not a text file"),
        (None, "no prompts of a known name"),
    ],
)
def test_what_is_no_file_of_templates(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OpenWITError, match=message):
        read_prompts(str(path))
    with pytest.raises(OpenWITError, match="no prompts"):
        read_prompts(str(tmp_path))


CASES = Path(__file__).parents[2] / "data" / "cases" / "eval-prompt-files"


@pytest.mark.parametrize(
    ("name", "templates"),
    [
        ("classname.txt", ["a photo of a cat."]),
        ("crlf_bom.txt", ["a photo of a cat.", "a cat."]),
        ("lambdas.txt", ["a bad photo of a cat.", "a photo of many cat."]),
        ("list.json", ["a photo of a cat.", "a drawing of a cat."]),
        ("percent.txt", ["a photo of a cat."]),
        ("python_list_lines.txt", ["a photo of a cat.", "a blurry photo of a cat."]),
        ("templates.json", ["a photo of a cat."]),
    ],
)
def test_files_pasted_from_code(name: str, templates: list[str]) -> None:
    assert [filled(template, "cat") for template in read_prompts(str(CASES / name))] == templates


@pytest.mark.parametrize(
    ("template", "filled_in"),
    [
        ("art of %(name)s", "art of cat"),
        ("art of {0}", "art of cat"),
        ("art of <class>, {oil}", None),
        ("art of {artist} with {label}", None),
        ("art of {label} and {label}", "art of cat and cat"),
        ("art of [CLASS]", "art of cat"),
        ("{}", "cat"),
    ],
)
def test_the_place_of_the_name(template: str, filled_in: str | None, tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text(template)
    if filled_in is None:
        with pytest.raises(OpenWITError, match=r"prompts.txt, line 1: .* has places for other things"):
            read_prompts(str(path))
    else:
        assert filled(read_prompts(str(path))[0], "cat") == filled_in
