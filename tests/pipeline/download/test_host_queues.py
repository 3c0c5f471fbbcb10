from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from openwit.pipeline.download.host_queues import HostQueues


def take(queues: HostQueues[str], now: float = 0.0, interval: float = 0.0) -> list[str]:
    taken = []
    while (turn := queues.next(now)) is not None:
        queues.started(turn[0], now, interval_s=interval)
        taken.append(turn[1])
    return taken


def test_hosts_take_turns_within_their_limit() -> None:
    queues: HostQueues[str] = HostQueues(per_host=2)
    for item in ("a1", "a2", "a3", "b1"):
        queues.push(item[0], item)
    assert take(queues) == ["a1", "b1", "a2"]
    queues.finished("a", 0)
    assert take(queues) == ["a3"]


def test_interval_between_starts() -> None:
    queues: HostQueues[str] = HostQueues(per_host=5)
    for item in ("a1", "a2", "a3"):
        queues.push("a", item)
    assert take(queues, 0.0, 1.0) == ["a1"]
    assert queues.next_due() == 1.0
    assert take(queues, 0.5, 1.0) == []
    assert take(queues, 1.0, 1.0) == ["a2"]
    queues.delay("a", 5.0)
    assert take(queues, 2.5) == []
    assert take(queues, 5.0) == ["a3"]


def test_stop_and_hold() -> None:
    queues: HostQueues[str] = HostQueues(per_host=5)
    queues.push("a", "page")
    queues.hold("a")
    assert take(queues) == []
    queues.push("a", "robots", urgent=True)
    queues.stop("a")
    assert take(queues) == []
    queues.resume("a")
    assert take(queues) == ["robots"]
    queues.release("a")
    assert take(queues) == ["page"]


def test_drain_and_front() -> None:
    queues: HostQueues[str] = HostQueues(per_host=1)
    queues.push("a", "2")
    queues.push("a", "1", front=True)
    queues.push("a", "0", urgent=True)
    assert queues.drain("a") == ["0", "1", "2"]
    assert queues.drain("unknown") == []
    assert take(queues) == []
    assert len(queues) == 0


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=40),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.5]),
)
def test_everything_comes_out_once_and_no_host_is_kept(
    pushes: list[tuple[str, bool]], per_host: int, interval: float
) -> None:
    queues: HostQueues[tuple[str, int]] = HostQueues(per_host)
    for number, (host, urgent) in enumerate(pushes):
        queues.push(host, (host, number), urgent=urgent)
    taken: list[tuple[str, int]] = []
    active: Counter[str] = Counter()
    now = 0.0
    while len(taken) < len(pushes):
        turn = queues.next(now)
        if turn is not None:
            queues.started(turn[0], now, interval_s=interval)
            active[turn[0]] += 1
            assert active[turn[0]] <= per_host
            taken.append(turn[1])
            continue
        for host in sorted(active):
            if active[host]:
                active[host] -= 1
                queues.finished(host, now)
        due = queues.next_due()
        now = max(now, due) if due is not None else now
    for host, count in active.items():
        for _ in range(count):
            queues.finished(host, now)
    assert queues.next(now + 10) is None
    assert sorted(number for _, number in taken) == list(range(len(pushes)))
    assert len(queues) == 0


def test_hosts_that_waited_for_a_time_go_before_all_others() -> None:
    queues: HostQueues[str] = HostQueues(per_host=1)
    queues.push("slow", "slow1")
    queues.push("slow", "slow2")
    assert queues.next(0.0) == ("slow", "slow1")
    queues.started("slow", 0.0, interval_s=2.0)
    queues.finished("slow", 0.1)
    for number in range(1000):
        queues.push(f"h{number}", f"new{number}")
    assert queues.next(0.5) == ("h0", "new0")
    assert queues.next(0.5, due_only=True) is None
    assert queues.next(2.0, due_only=True) == ("slow", "slow2")
    queues.push("h500", "retry", front=True, due=True)
    assert queues.next(2.0) == ("h500", "retry")
    queues.started("h500", 2.0, interval_s=0)
    assert [queues.next(2.0) for _ in range(2)] == [("h1", "new1"), ("h2", "new2")]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans(), st.booleans(), st.integers(0, 3)), max_size=40))
def test_every_item_is_handed_out_once_whatever_is_due(items: list[tuple[str, bool, bool, int]]) -> None:
    queues: HostQueues[int] = HostQueues(per_host=1)
    taken: list[int] = []
    now = 0.0
    for number, (host, due, urgent, interval) in enumerate(items):
        queues.push(host, number, due=due, urgent=urgent)
        turn = queues.next(now, due_only=due)
        if turn is not None:
            taken.append(turn[1])
            queues.started(turn[0], now, interval_s=interval)
            queues.finished(turn[0], now)
    while (turn := queues.next(now)) is not None or queues.next_due() is not None:
        if turn is None:
            now = queues.next_due() or now
            continue
        taken.append(turn[1])
        queues.started(turn[0], now, interval_s=1)
        queues.finished(turn[0], now)
    assert sorted(taken) == list(range(len(items)))
    queues.next(now + 10)
    assert len(queues) == 0


def test_the_limit_of_a_host_may_change_while_it_is_served() -> None:
    limits = {"a": 1}
    queues: HostQueues[str] = HostQueues(lambda host: limits.get(host, 2))
    for number in range(6):
        queues.push("a", f"a{number}")
    assert take(queues) == ["a0"]
    limits["a"] = 3
    queues.finished("a", 0)
    assert take(queues) == ["a1", "a2", "a3"]
    assert queues.active("a") == 3
    limits["a"] = 1
    queues.finished("a", 0)
    queues.finished("a", 0)
    assert take(queues) == []
    queues.finished("a", 0)
    assert take(queues) == ["a4"]


def test_what_is_due_stays_due_while_the_limit_holds_it_back() -> None:
    queues: HostQueues[str] = HostQueues(per_host=1)
    for item in ("a1", "b1", "b2"):
        queues.push(item[0], item)
    assert take(queues) == ["a1", "b1"]
    queues.push("a", "retry", front=True, due=True)
    assert queues.next(0.0, due_only=True) is None
    queues.finished("b", 0)
    queues.finished("a", 0)
    assert queues.next(0.0, due_only=True) == ("a", "retry")
