"""Rules of robots.txt: what Protego says of them, at a cost that does not grow with their number."""

import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from protego import Protego

from openwit.pipeline.download.robots_rules import CompiledRules, parse_rules

AGENT = "openwit"

TOKENS = ["/", "a", "b", "*", "$", "**", "ab", "/a/", ".gif", "%41", "%2F", "%2a", "%", "é", "?", "=", "&",
          "index.html", "http://", "#", " ", ":", "robots.txt"]  # fmt: skip
PATTERN = st.lists(st.sampled_from(TOKENS), max_size=6).map("".join)
FIELD = st.sampled_from(["Disallow", "Allow", "disalow", "Crawl-delay", "Sitemap", "nonsense", "Host", "Visit-time"])
NAME = st.sampled_from(["*", "openwit", "OpenWIT", "open", "wit", "openwit*", "other", "", "**"])
LINE = (
    st.builds("{}: {}".format, FIELD, PATTERN)
    | st.builds("{} {}".format, FIELD, PATTERN)
    | st.builds("User-agent: {}".format, NAME)
    | st.builds("user agent {}".format, NAME)
    | PATTERN
)
ROBOTS = st.lists(LINE, max_size=12).map("\n".join)
PATHS = st.lists(st.sampled_from([token for token in TOKENS if token != "#"]), max_size=7).map("".join)


@given(ROBOTS, st.lists(PATHS, max_size=5))
@example("User-agent: *\nDisallow: /a*****\nAllow: /ab", ["abc"])
@example("User-agent: *\nAllow: /a/index.html\nDisallow: /a", ["a/", "a/b"])
@example("User-agent: *\nDisallow: /a*$", ["a", "ab"])
def test_every_file_means_what_protego_reads_in_it(text: str, paths: list[str]) -> None:
    theirs, ours = Protego.parse(text), parse_rules(text, AGENT)
    delay = theirs.crawl_delay(AGENT)
    assert (ours.crawl_delay_s if ours is not None else 0.0) == (delay or 0.0)
    for path in paths:
        path = "/" + path.replace(" ", "%20")
        allowed = ours is None or ours.allows(path)
        assert allowed == theirs.can_fetch(f"http://h.example{path}", AGENT), path


def calls_of(rules: CompiledRules, path: str) -> int:
    """Functions that one look-up calls, those of C included."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        rules.allows(path)
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize(
    ("rule", "path"),
    [
        ("/dir{}/sub", "/dir77/other.jpg"),
        ("/*/x{}.html$", "/pictures/of/a/dog.jpg"),
        ("/dir{}/*.gif", "/dir77/x.jpg"),
        ("/a{}$", "/a77b"),
        ("/" + "a" * 40 + "{}", "/" + "a" * 400),
    ],
)
def test_a_look_up_costs_the_same_with_four_times_as_many_rules(rule: str, path: str) -> None:
    few, many = (CompiledRules([(rule.format(n), False) for n in range(size)]) for size in (500, 2000))
    assert calls_of(many, path) <= calls_of(few, path) + 20


def test_prefixes_within_prefixes_cost_no_look_up_each() -> None:
    rules = CompiledRules([("/" + "a" * n, bool(n % 2)) for n in range(3000)])
    assert calls_of(rules, "/" + "a" * 2999 + "b") < 100
    assert rules.allows("/" + "a" * 2999)
    assert not rules.allows("/" + "a" * 2998)


def test_a_rule_of_many_stars_never_goes_back() -> None:
    rules = CompiledRules([("/" + "*a" * 200 + "*b", False)])
    assert rules.allows("/" + "a" * 5000)
    assert calls_of(rules, "/" + "a" * 5000) < 1000
