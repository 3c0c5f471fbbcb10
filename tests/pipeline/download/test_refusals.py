"""How hosts that refuse requests are paused, slowed down and given up: the rule, without a network."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openwit.pipeline.download.refusals import Refusals
from openwit.pipeline.download.status import FetchStatus

LIMITED = FetchStatus.HTTP_RATE_LIMITED


def refused(
    refusals: Refusals, now: float, *, started: float | None = None, retry_after_s: float | None = None
) -> float:
    begun = now if started is None else started
    return refusals.refused("a", now, started=begun, status=LIMITED, retry_after_s=retry_after_s)


def make(patience_s: float = 120.0) -> Refusals:
    return Refusals(first_s=1.0, longest_s=30.0, patience_s=patience_s)


def test_pauses_double_and_the_host_is_given_up_after_two_minutes() -> None:
    refusals, now, pauses = make(), 0.0, []
    while refusals.given_up("a") is None:
        pauses.append(refused(refusals, now))
        now += pauses[-1]
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 0]
    assert refusals.given_up("a") is LIMITED
    assert refusals.given_up("b") is None


def test_all_that_was_under_way_counts_once() -> None:
    refusals = make()
    assert [refused(refusals, 10.0 + n / 10, started=10.0 - n) for n in range(3)] == pytest.approx([1, 0.9, 0.8])
    assert refusals.interval_s("a") == 0.25


def test_retry_after_is_heeded_within_the_patience() -> None:
    refusals = make()
    assert refused(refusals, 0.0, retry_after_s=60) == 60
    assert refusals.given_up("a") is None
    assert refused(refusals, 60.0, retry_after_s=61) == 0
    assert refusals.given_up("a") is LIMITED
    assert refused(make(), 0.0, retry_after_s=0.2) == 1, "not sooner than without"


def test_answers_earn_time_and_speed() -> None:
    refusals = make(patience_s=10)
    for number in range(50):  # refused once in twenty requests for ever
        refused(refusals, 100.0 * number)
        for _ in range(20):
            refusals.answered("a")
    assert refusals.given_up("a") is None
    assert 0.05 < refusals.interval_s("a") < 0.4
    for _ in range(60):
        refusals.answered("a")
    assert (refusals.interval_s("a"), len(refusals)) == (0, 0)


def test_a_host_that_answers_now_and_then_is_not_waited_for_without_end() -> None:
    refusals, now = make(), 0.0
    for _ in range(10):
        now += refused(refusals, now, retry_after_s=20)
        refusals.answered("a")
    assert refusals.given_up("a") is LIMITED


@given(st.lists(st.one_of(st.none(), st.floats(0, 200)), max_size=100), st.floats(0, 300))
def test_it_never_makes_us_wait_longer_than_the_patience_and_what_answers_earned(
    events: list[float | None], patience_s: float
) -> None:
    refusals, now, waited = make(patience_s), 0.0, 0.0
    for event in events:
        if event is None:
            refusals.answered("a")
        else:
            pause = refused(refusals, now, retry_after_s=event)
            now, waited = now + pause, waited + pause
    assert waited <= patience_s + 2.0 * events.count(None) + 1e-6
    assert 0 <= refusals.interval_s("a") <= 30


def test_the_number_of_hosts_is_bounded() -> None:
    refusals = Refusals(first_s=1.0, longest_s=30.0, patience_s=120.0, max_hosts=3)
    for name in "abcde":
        refusals.refused(name, 0.0, started=0.0, status=LIMITED, retry_after_s=None)
    assert len(refusals) == 3
    assert refusals.interval_s("a") == 0
