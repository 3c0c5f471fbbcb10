import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.pipeline.download.robots import (
    MAX_ROBOTS_BYTES,
    RobotsCache,
    RobotsRules,
    Verdict,
    rules_from_response,
    unreachable,
)
from openwit.pipeline.download.target import parse_target

AGENT = "openwit"


def verdict(rules: RobotsRules, path: str) -> Verdict:
    return rules.verdict(parse_target(f"http://example.com{path}"))


def test_group_of_our_agent_goes_before_the_group_of_all() -> None:
    rules = rules_from_response(200, b"User-agent: *\nDisallow: /\n\nUser-agent: OpenWIT\nDisallow: /private\n", AGENT)
    assert verdict(rules, "/a.jpg") is Verdict.ALLOWED
    assert verdict(rules, "/private/a.jpg") is Verdict.DISALLOWED


def test_longest_rule_wins_and_wildcards_count() -> None:
    rules = rules_from_response(200, b"User-agent: *\nDisallow: /img\nAllow: /img/open\nDisallow: /*.gif$\n", AGENT)
    assert verdict(rules, "/img/x.jpg") is Verdict.DISALLOWED
    assert verdict(rules, "/img/open/x.jpg") is Verdict.ALLOWED
    assert verdict(rules, "/x.gif") is Verdict.DISALLOWED
    assert verdict(rules, "/x.gif?y") is Verdict.ALLOWED


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451])
def test_client_errors_mean_no_rules(status: int) -> None:
    assert verdict(rules_from_response(status, b"User-agent: *\nDisallow: /", AGENT), "/x") is Verdict.ALLOWED


@pytest.mark.parametrize("status", [429, 500, 503])
def test_server_errors_mean_nothing_may_be_fetched(status: int) -> None:
    assert verdict(rules_from_response(status, b"", AGENT), "/x") is Verdict.UNREACHABLE


def test_byte_order_mark_and_html_do_no_harm() -> None:
    marked = rules_from_response(200, b"\xef\xbb\xbfUser-agent: *\nDisallow: /x", AGENT)
    assert verdict(marked, "/x") is Verdict.DISALLOWED
    page = rules_from_response(200, b"<!doctype html><html><body>Not found</body></html>", AGENT)
    assert verdict(page, "/x") is Verdict.ALLOWED


def test_only_the_first_500_kib_count_and_a_cut_line_does_not() -> None:
    filler = b"# filler\n" * (MAX_ROBOTS_BYTES // 9 - 5)
    head = b"User-agent: *\nDisallow: /kept\n" + filler
    cut = b"Disallow: /" + b"y" * (MAX_ROBOTS_BYTES - len(head)) + b"\nDisallow: /beyond\n"
    rules = rules_from_response(200, head + cut, AGENT)
    assert verdict(rules, "/kept") is Verdict.DISALLOWED
    assert verdict(rules, "/beyond") is Verdict.ALLOWED
    assert verdict(rules, "/yes") is Verdict.ALLOWED


def test_crawl_delay() -> None:
    assert rules_from_response(200, b"User-agent: *\nCrawl-delay: 2.5\n", AGENT).crawl_delay_s == 2.5
    assert rules_from_response(200, b"User-agent: *\nCrawl-delay: soon\n", AGENT).crawl_delay_s == 0


def test_cache_forgets_by_age_and_by_number() -> None:
    cache = RobotsCache(max_origins=2)
    allowed = rules_from_response(404, b"", AGENT)
    cache.put("a", allowed, 0)
    assert cache.get("a", 3600) is allowed
    assert cache.get("a", 25 * 3600) is None
    cache.put("down", unreachable("x"), 0)
    assert cache.get("down", 500) is not None
    assert cache.get("down", 700) is None
    for origin in ("a", "b", "c"):
        cache.put(origin, allowed, 0)
    assert cache.get("a", 1) is None
    assert len(cache) == 2


@given(st.binary(max_size=300))
def test_any_body_is_read(body: bytes) -> None:
    assert verdict(rules_from_response(200, body, AGENT), "/x") in (Verdict.ALLOWED, Verdict.DISALLOWED)
