import pytest

from openwit.schemas.common.errors import OpenWITError, RecipeError
from openwit.schemas.common.settings import Settings, load_settings, read_yaml


class Inner(Settings):
    cap: int = 3
    names: list[str] = []


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title: a\ninner: {capp: 5}", r"unknown key 'inner.capp'; did you mean 'cap'\?"),
        ("title: a\nzzz: 1", "unknown key 'zzz'; known keys: inner, title"),
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
