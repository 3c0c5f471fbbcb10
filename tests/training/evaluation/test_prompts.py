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
        (b"\xff\xfe{}", "no UTF-8 text"),
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
