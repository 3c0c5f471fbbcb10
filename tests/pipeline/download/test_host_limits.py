"""How many transfers a host is given: the rule, without a network."""

from hypothesis import given
from hypothesis import strategies as st

from openwit.pipeline.download.host_limits import START, HostLimit, HostLimits


def answer_rounds(limit: HostLimit, rounds: int, latency_s: float, *, idle: bool = False) -> list[int]:
    seen = []
    for _ in range(rounds):
        for _ in range(limit.limit):
            limit.answered(latency_s, active=0 if idle else limit.limit)
        seen.append(limit.limit)
    return seen


def burdened(most: int) -> HostLimit:
    """Return a limit of 8 that has seen signs of load."""
    limit = HostLimit.new(most)
    assert answer_rounds(limit, 2, 0.2)[0] == min(16, most)
    while limit.limit > START:
        limit.answered(0.9, active=limit.limit)
    return limit


def test_it_starts_small_and_doubles_up_to_the_setting_until_the_first_sign_of_load() -> None:
    assert answer_rounds(HostLimit.new(50), 4, 0.2) == [16, 32, 50, 50]
    assert answer_rounds(burdened(12), 6, 0.2) == [9, 10, 11, 12, 12, 12]
    limit = HostLimit.new(50)
    assert answer_rounds(limit, 1, 0.2) == [16]
    assert answer_rounds(limit, 1, 0.35) == [8], "the last step is taken back"
    assert answer_rounds(limit, 2, 0.2) == [9, 10]
    limit.overloaded(9.0, started=8.0, refused=True)
    assert answer_rounds(limit, 2, 0.2) == [6, 7]
    assert HostLimit.new(2).limit == 2
    assert HostLimit.new(100).limit == START


def test_it_does_not_grow_while_it_is_not_used() -> None:
    assert answer_rounds(HostLimit.new(12), 5, 0.2, idle=True) == [8] * 5


def test_slower_answers_take_back_what_was_added_and_no_more() -> None:
    limit = burdened(32)
    assert answer_rounds(limit, 3, 0.2)[-1] == 11
    assert answer_rounds(limit, 1, 0.45)[-1] == 12, "about as fast as before"
    assert answer_rounds(limit, 6, 0.9) == [11, 10, 9, 8, 8, 8]
    assert answer_rounds(limit, 2, 0.2) == [9, 10]


def test_small_delays_are_no_sign_of_load() -> None:
    limit = HostLimit.new(32)
    answer_rounds(limit, 1, 0.001)
    assert answer_rounds(limit, 1, 0.09) == [8], "only of the first ones, which are many more"
    assert answer_rounds(limit, 2, 0.09) == [9, 10]


def test_overload_halves_once_for_all_that_was_under_way() -> None:
    limit = HostLimit.new(32)
    answer_rounds(limit, 1, 0.2)
    assert limit.limit == 16
    for number in range(16):
        limit.overloaded(10.0 + number / 100, started=9.0 + number / 100, refused=number % 2 == 0)
    assert limit.limit == 8
    limit.overloaded(12.0, started=11.0, refused=True)
    assert limit.limit == 4
    for number in range(9):
        limit.overloaded(20.0 + number, started=19.5 + number, refused=True)
    assert limit.limit == 1, "never less than one"
    assert answer_rounds(limit, 3, 0.2) == [2, 3, 4]


def test_a_host_of_which_nothing_is_heard_is_not_asked_ever_slower() -> None:
    limit = HostLimit.new(32)
    limit.overloaded(10.0, started=0.0, refused=False)
    assert limit.limit == 8, "it never answered"
    limit.answered(0.2, active=4)
    for number in range(2, 6):
        limit.overloaded(10.0 * number, started=10.0 * number - 5, refused=False)
    assert limit.limit == 4
    limit.answered(0.2, active=4)
    limit.overloaded(100.0, started=90.0, refused=False)
    assert limit.limit == 2, "some requests are answered, others time out: it is busy"


@given(st.integers(1, 64), st.lists(st.tuples(st.booleans(), st.floats(0, 5)), max_size=200))
def test_the_limit_keeps_its_bounds(most: int, events: list[tuple[bool, float]]) -> None:
    limit, now = HostLimit.new(most), 0.0
    for good, value in events:
        before, now = limit.limit, now + value
        if good:
            limit.answered(value, active=limit.limit)
            assert before // 2 <= limit.limit <= 2 * before
        else:
            limit.overloaded(now, started=now - value, refused=value > 1)
            assert limit.limit in (before, max(1, before // 2))
        assert 1 <= limit.limit <= most


def test_hosts_are_independent_and_their_number_is_bounded() -> None:
    limits = HostLimits(32, max_hosts=3)
    limits.overloaded("a", 1.0, started=0.0, refused=True)
    assert (limits.of("a"), limits.of("b")) == (START // 2, START)
    for name in "bcde":
        limits.answered(name, 0.1, active=1)
    assert len(limits) == 3
    assert limits.of("a") == START
