from pathlib import Path
from typing import Literal

import pydantic
import pytest

from openwit.pipeline.stages import STAGES, stage_named
from openwit.pipeline.stages.fetch.settings import FetchSettings
from openwit.pipeline.stages.select.settings import SelectSettings
from openwit.schemas.common.errors import OpenWITError, RecipeError
from openwit.schemas.common.settings import Settings, apply_override, load_settings, parse_settings, read_yaml
from openwit.schemas.common.settings_reference import sections_in
from openwit.training.config import OptimSettings, TrainConfig


class Inner(Settings):
    cap: int = 3
    names: list[str] = []
    shares: list[float] | None = None
    either: bool | int = 7
    choice: Literal[1, 2, True] = 1


class Outer(Settings):
    title: str
    inner: Inner = Inner()


def load(tmp_path, text, *overrides):
    path = tmp_path / "s.yaml"
    path.write_text(text)
    return load_settings(path, Outer, overrides)


def test_values_and_overrides(tmp_path):
    settings = load(tmp_path, "title: a\ninner: {cap: 5}", "inner.names=[x, y]", "title=b")
    assert settings == Outer(title="b", inner=Inner(cap=5, names=["x", "y"]))
    assert load(tmp_path, "title: a\ninner: {either: true, choice: true, shares: [1, 0.5]}").inner.either is True


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title: a\ninner: {capp: 5}", r"unknown key 'inner.capp'; did you mean 'cap'\?"),
        ("title: a\ninner: {cap: true}", "key 'inner.cap': must be a number, not true"),
        ("title: a\ninner: {shares: [0.5, false]}", "key 'inner.shares': must be a number, not false"),
        ("title: a\nzzz: 1", "unknown key 'zzz'; known keys: inner, title"),
        ("title: a\ncap: 1", r"unknown key 'cap'; did you mean 'inner.cap'\?"),
        ("title: a\ninner: {title: b}", r"unknown key 'inner.title'; did you mean 'title'\?"),
        ("title: a\ninner: {cap: many}", r"key 'inner.cap': .*integer.*\(got 'many'\)"),
        ("inner: {}", "key 'title' is missing"),
        ("- a\n- b", "must hold settings"),
        ("title: [", "not valid YAML"),
    ],
)
def test_a_mistake_is_named_in_one_sentence(tmp_path, text, message):
    with pytest.raises(OpenWITError, match=message) as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("override", ["novalue", "title.deep=1", "=3"])
def test_a_bad_override_is_named(tmp_path, override):
    with pytest.raises(OpenWITError, match="setting "):
        load(tmp_path, "title: a", override)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(OpenWITError, match="gone.yaml does not exist"):
        load_settings(tmp_path / "gone.yaml", Outer)


@pytest.mark.parametrize(
    "text", ["size: 1\nsize: 2\n", "inner: {a: 1, a: 1}\n", "steps:\n- select: {cap: 1}\n  select: {}\n"]
)
def test_a_key_that_is_given_twice_is_an_error(tmp_path, text):
    (tmp_path / "file.yaml").write_text(text)
    with pytest.raises(RecipeError, match="is given twice.*line"):
        read_yaml(tmp_path / "file.yaml")


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(12)
)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"a: \xe9", "not valid YAML"),
        (b"\x00\x01", "not valid YAML"),
        (b"a: 2001-99-99", "not valid YAML"),
        (b"a: " + 6000 * b"9", "not valid YAML"),
        (b"[" * 2000, "nested too deeply"),
        (b"- " * 100_000, "nested too deeply"),
        (b"x: &a {b: *a}", "within itself"),
        (BOMB.encode(), "too many aliases"),
        (b"#" * (5 << 20), "larger than"),
    ],
)
def test_no_yaml_ends_in_anything_but_a_sentence(tmp_path, data, said):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(data)
    with pytest.raises(RecipeError, match=said) as caught:
        read_yaml(path)
    assert "\n" not in str(caught.value)


def test_marked_utf_8_and_utf_16_are_read(tmp_path):
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "r.yaml").write_bytes("name: größe".encode(encoding))
        assert read_yaml(tmp_path / "r.yaml") == {"name": "größe"}


def floats(annotation, key=()):
    """Yields the keys of every number with a fraction in a settings model, and how to write it there."""
    for section in sections_in(annotation):
        for name, field in section.model_fields.items():
            yield from floats(field.annotation, (*key, name))
            shape = str(field.annotation)
            if "float" in shape:
                wrap = "[{0}, {0}]" if "tuple" in shape else "{{a: {0}}}" if "dict" in shape else "{0}"
                yield (*key, name), wrap


def every_model():
    yield TrainConfig
    yield from (stage_named(name).settings for name in STAGES)


EVERY_FLOAT = [(model, *found) for model in every_model() for found in floats(model)]


@pytest.mark.parametrize("number", [".nan", ".inf", "-.inf", "1.0e+999"])
def test_no_setting_takes_a_number_that_is_not_finite(number):
    refused = 0
    for model, key, wrap in EVERY_FLOAT:
        raw: dict = {}
        apply_override(raw, f"{'.'.join(key)}={wrap.format(number)}")
        with pytest.raises(pydantic.ValidationError) as found:
            model.model_validate(raw)
        refused += any(error["type"] == "finite_number" for error in found.value.errors())
    assert refused >= 30
    assert "finite" in said(SelectSettings, f"oversample={number}")
    assert "finite" in said(FetchSettings, f"min_success={number}")
    assert "finite" in said(OptimSettings, f"lr={number}")


def said(model, override):
    raw: dict = {}
    apply_override(raw, override)
    with pytest.raises(RecipeError) as refused:
        parse_settings(raw, model, "s.yaml")
    return str(refused.value)


class Listed(Settings):
    """Every form of a list."""

    names: list[str] = []
    paths: tuple[Path, ...] | None = None
    pair: tuple[str, str] = ("a", "b")
    word: str = ""


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        ({"names": "a.csv"}, Listed(names=["a.csv"])),
        ({"paths": "a"}, Listed(paths=(Path("a"),))),
        ({"word": "a"}, Listed(word="a")),
        ({"names": ["a", "b"]}, Listed(names=["a", "b"])),
    ],
)
def test_one_text_is_a_list_of_one(raw, found):
    assert parse_settings(raw, Listed, "here") == found


@pytest.mark.parametrize("raw", [{"pair": "ab"}, {"names": 3}, {"names": {"a": 1}}])
def test_what_is_no_list_of_one_is_refused(raw):
    with pytest.raises(OpenWITError):
        parse_settings(raw, Listed, "here")


@pytest.mark.parametrize(("text", "line"), [("http://a.org/x.jpg\tcaption\n", 1), ("steps:\n\t- queries: {}\n", 2)])
def test_a_tab_is_said_with_its_line(tmp_path, text, line):
    (tmp_path / "urls.txt").write_text(text)
    message = f"urls.txt is not a recipe or configuration, because it is not valid YAML: a tab at line {line}, "
    with pytest.raises(RecipeError, match=message):
        read_yaml(tmp_path / "urls.txt")
