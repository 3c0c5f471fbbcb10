import pickle

import numpy as np
import pytest

from openwit.pipeline.common.custom_filters import CustomFilter, custom_filters
from openwit.pipeline.images.filters import ImageFilters
from openwit.schemas.common.errors import PluginError, RecipeError
from openwit.schemas.common.plugins import PluginSettings


def keep_all(_subject, _context):
    return True


def no_Numpy(_subject, _context):
    return np.bool_(False)


def too_small(_subject, _context):
    return False, "too_small"


def bad_reason(_subject, _context):
    return False, "Not A Reason"


def none(_subject, _context):
    return None


def raises(_subject, _context):
    raise KeyError("a\nb")


class HTMLFree:
    ready = False

    def __init__(self, limit=1):
        if limit < 0:
            raise ValueError("limit must not be negative")
        self.limit = limit

    def setup(self):
        self.ready = True

    def __call__(self, subject, _context):
        return self.ready and subject.count("<") <= self.limit


class BadSetup(HTMLFree):
    def setup(self):
        raise OSError("no list")


def made(name, **settings):
    return CustomFilter(PluginSettings(name=f"{__name__}.{name}", **settings), key="key", taken=("too_small",))


def test_the_reason_is_the_name_unless_another_is_given():
    assert made("keep_all").drop_reason("x", None, "x") is None
    assert made("no_Numpy").drop_reason("x", None, "x") == "no_numpy"


def test_a_class_gets_its_settings_and_is_set_up_once():
    plain, limited = made("HTMLFree"), made("HTMLFree", limit=3)
    assert plain.reason == "htmlfree"
    assert limited.drop_reason("<", None, "x") == "htmlfree"
    for custom in (plain, limited):
        custom.setup()
    assert limited.drop_reason("<<<", None, "x") is None
    assert plain.drop_reason("<<", None, "x") == "htmlfree"


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("none", {}, "'.*none' must return True, False or \\(False, reason\\), but returned None for this"),
        ("raises", {}, "'.*raises' failed on this: KeyError: 'a.*b'"),
        ("bad_reason", {}, "gives the reason 'Not A Reason'; a reason has only a-z, 0-9 and underscores"),
        ("too_small", {}, "gives the reason 'too_small', which has another meaning already"),
        ("HTMLFree", {"limit": -1}, "cannot be built: ValueError: limit must not be negative"),
        ("BadSetup", {}, "failed in setup: OSError: no list"),
    ],
)
def test_what_is_wrong_with_a_filter_is_a_sentence(name, settings, message):
    with pytest.raises(PluginError, match=f"^key: .*{message}") as error:
        custom = made(name, **settings)
        custom.setup()
        custom.drop_reason("x", None, "this")
    assert "\n" not in str(error.value)
    assert isinstance(error.value, RecipeError)


def test_a_list_keeps_its_order():
    plugins = [PluginSettings(name=f"{__name__}.{name}") for name in ("none", "keep_all")]
    assert [custom.reason for custom in custom_filters(plugins, key="key")] == ["none", "keep_all"]


def test_settings_of_plugins_can_be_pickled():
    plugin = PluginSettings.model_validate({"name": "a.b", "words": [1, 2]})
    assert pickle.loads(pickle.dumps(plugin)) == plugin


def test_an_image_filter_may_not_give_a_status_of_downloads():
    with pytest.raises(PluginError, match="gives the reason 'too_small', which has another meaning"):
        ImageFilters([PluginSettings(name=f"{__name__}.too_small")])
