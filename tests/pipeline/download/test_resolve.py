import threading

import pytest

from openwit.pipeline.download import resolve
from openwit.pipeline.download.resolve import Resolution, Resolver, look_up


def collect(resolver: Resolver, woken: threading.Semaphore, count: int, now: float = 0.0) -> dict[str, Resolution]:
    answers: dict[str, Resolution] = {}
    while len(answers) < count:
        assert woken.acquire(timeout=10)
        answers.update(resolver.collect(now))
    return answers


def test_numbers_resolve_to_themselves_and_wake_the_caller() -> None:
    woken = threading.Semaphore(0)
    resolver = Resolver(2, 5.0, woken.release)
    for host in ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.1"):
        resolver.ask(host, 0.0)
    answers = collect(resolver, woken, 3)
    assert answers["127.0.0.2"].addresses == ("127.0.0.2",)
    assert resolver.get("127.0.0.1", 1.0) == answers["127.0.0.1"]
    assert resolver.get("127.0.0.1", 10_000.0) is None
    resolver.close()


def test_odd_forms_of_loopback_are_seen_through() -> None:
    assert look_up("0x7f000001").addresses == ("127.0.0.1",)
    assert look_up("127.1").addresses == ("127.0.0.1",)


def test_names_that_cannot_be() -> None:
    assert look_up("a" * 70 + ".example").addresses == ()
    assert look_up("").addresses in ((), ("127.0.0.1",))


def test_slow_lookups_are_given_up_and_their_threads_stay_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    release, woken = threading.Event(), threading.Semaphore(0)

    def slow(host: str) -> Resolution:
        if host == "slow":
            release.wait(20)
        return Resolution(("127.0.0.1",))

    monkeypatch.setattr(resolve, "look_up", slow)
    resolver = Resolver(1, 3.0, woken.release)
    resolver.ask("slow", 0.0)
    resolver.ask("next", 0.0)
    assert resolver.collect(1.0) == []
    [(host, answer)] = resolver.collect(4.0)
    assert (host, answer.addresses, answer.not_found) == ("slow", (), False)
    assert "3 s" in answer.detail
    # The only thread is still busy with the lookup that nobody waits for: the next one has not begun, and the
    # time it waits does not count against it.
    assert resolver.collect(100.0) == []
    release.set()
    assert woken.acquire(timeout=10)
    assert resolver.collect(100.0) == []
    assert collect(resolver, woken, 1, 100.0)["next"].addresses == ("127.0.0.1",)
    resolver.close()
