import io
from pathlib import Path

import pytest
from pydantic import ValidationError

from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.plugins import PluginSettings, check_call, load_callable, load_object, one_line

MODULE = """
LIMIT = 3

class Filter:
    def __init__(self, words=3):
        self.words = words

    @staticmethod
    def inner(text):
        return text

def keep(text, context, *, words=1):
    return len(text.split()) >= words
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package outside the repository on the import path; answers its name."""
    package = tmp_path / "plugin_package_of_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "good.py").write_text(MODULE)
    (package / "raises.py").write_text("1 / 0\n")
    (package / "needs.py").write_text("import module_that_is_not_there\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "plugin_package_of_test"


@pytest.mark.parametrize("form", ["{}.good.keep", "{}.good:keep"])
def test_both_forms_of_a_name(module: str, form: str) -> None:
    assert load_object(form.format(module)).__name__ == "keep"


def test_attributes_may_be_nested(module: str) -> None:
    assert load_object(f"{module}.good:Filter.inner")("a") == "a"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "'' is not a dotted name such as mypkg.module.function"),
        ("keep", "'keep' is not a dotted name"),
        ("a b.c", "'a b.c' is not a dotted name"),
        (".good.keep", "'.good.keep' is not a dotted name"),
        ("no_such_package_here.keep", "there is no module 'no_such_package_here'; is its folder on PYTHONPATH"),
        ("{}.missing.keep", "there is no module '{}.missing'"),
        ("{}.good.missing", "module '{}.good' has no attribute 'missing'"),
        ("{}.raises.keep", "module '{}.raises' cannot be imported: ZeroDivisionError: division by zero"),
        ("{}.needs.keep", "there is no module 'module_that_is_not_there'"),
    ],
)
def test_a_wrong_name_is_one_sentence(module: str, name: str, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        load_object(name.format(module), key="candidates.filters.custom")
    assert str(error.value).startswith("candidates.filters.custom: ")
    assert message.format(module) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_plugin_is_a_name_or_a_mapping() -> None:
    plain = PluginSettings.model_validate("mypkg.no_memes")
    assert (plain.name, plain.settings, plain.model_dump()) == ("mypkg.no_memes", {}, {"name": "mypkg.no_memes"})
    full = PluginSettings.model_validate({"name": "mypkg.min_words", "words": 3})
    assert (full.name, full.settings) == ("mypkg.min_words", {"words": 3})
    assert full.model_dump(mode="json") == {"name": "mypkg.min_words", "words": 3}
    with pytest.raises(ValidationError):
        PluginSettings.model_validate({"words": 3})


def test_the_call_is_checked(module: str) -> None:
    plugin = PluginSettings.model_validate({"name": f"{module}.good.keep", "words": 3})
    assert load_callable(plugin, positional=2)("a b", None, words=3) is False
    with pytest.raises(RecipeError, match=r"cannot be called with 1 positional argument, words: missing a required"):
        load_callable(plugin, positional=1)
    with pytest.raises(RecipeError, match=r"cannot be called with 2 positional arguments, wrods: .*wrods"):
        load_callable(PluginSettings.model_validate({"name": f"{module}.good.keep", "wrods": 3}), positional=2)
    with pytest.raises(RecipeError, match=r"key: '.*good.LIMIT' is a int, not a function or class"):
        load_callable(PluginSettings(name=f"{module}.good.LIMIT"), key="key")


def test_callables_without_a_signature_pass() -> None:
    check_call(min, {}, name="min", positional=7)


def test_errors_as_part_of_a_sentence() -> None:
    assert one_line(KeyError()) == "KeyError"
    assert one_line(ValueError("a\n  b")) == "ValueError: a b"
    assert one_line(ValueError(f"cannot read {io.BytesIO()!r}")) == "ValueError: cannot read <_io.BytesIO object>"
    assert len(one_line(ValueError("x" * 999))) == 200
