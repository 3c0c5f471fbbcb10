import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.pipeline.download.opt_out import OPT_OUT_RULES, opt_out, robots_tag_opt_out


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("noai", "noai"),
        ("NoImageAI", "noimageai"),
        ("nofollow, noindex", "noindex"),
        ("none", "none"),
        ("noimageindex", "noimageindex"),
        ("nofollow", None),
        ("all", None),
        ("", None),
        ("openwit: noai", "noai"),
        ("OpenWIT : noai", "noai"),
        ("*: noai", "noai"),
        ("googlebot: noai", None),
        ("googlebot: nofollow, noindex", None),
        ("googlebot: noindex, openwit: noai", "noai"),
        ("openwit: nofollow, googlebot: noai", None),
        ("max-image-preview: large, noai", "noai"),
        ("unavailable_after: 25 Jun 2010 15:00:00 PST, noai", "noai"),
        ("max-snippet:20", None),
        ("noindexing", None),
    ],
)
def test_x_robots_tag(value: str, rule: str | None) -> None:
    assert robots_tag_opt_out(value, "openwit") == rule


def test_headers() -> None:
    assert opt_out([("x-robots-tag", "nofollow"), ("x-robots-tag", "noai")], "openwit") == "X-Robots-Tag: noai"
    assert opt_out([("tdm-reservation", " 1 ")], "openwit") == "tdm-reservation: 1"
    assert opt_out([("tdm-reservation", "0"), ("content-type", "noai")], "openwit") is None
    assert opt_out([], "openwit") is None


@given(st.lists(st.sampled_from([*sorted(OPT_OUT_RULES), "nofollow", "all", "noarchive"]), min_size=1, max_size=5))
def test_any_opt_out_in_a_list_is_found(rules: list[str]) -> None:
    expected = next((rule for rule in rules if rule in OPT_OUT_RULES), None)
    assert robots_tag_opt_out(", ".join(rules), "openwit") == expected


@given(st.text(max_size=50))
def test_any_text_has_an_answer(value: str) -> None:
    assert robots_tag_opt_out(value, "openwit") in {None, *OPT_OUT_RULES}
