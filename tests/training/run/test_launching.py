"""Time in which the launching thread does not run, as threads hold Python's lock."""

import threading

import torch

from openwit.training.run.guards import HELD_UP, Warnings
from openwit.training.run.launching import LaunchWatch


def measured(busy: int) -> float:
    over = threading.Event()
    begun = threading.Barrier(busy + 1)

    def spin() -> None:
        begun.wait()
        while not over.is_set():
            sum(range(1000))

    threads = [threading.Thread(target=spin) for _ in range(busy)]
    for thread in threads:
        thread.start()
    begun.wait()
    try:
        watch = LaunchWatch(torch.device("cpu"))
        for _ in range(6):
            watch.begin()
            watch.end()
        return watch.read()["launch_wait"]
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_threads_that_hold_the_lock_are_seen() -> None:
    # Other work on the machine moves single measurements in both directions.
    assert any(measured(2) > HELD_UP for _ in range(100))
    assert 0 <= min(measured(0) for _ in range(100)) < HELD_UP


def test_a_warning_is_given_once_with_what_to_do() -> None:
    def said(on_gpu: bool = True, **more: int) -> list[str]:
        warnings = Warnings(None, None, **more)
        metrics = {"loss": 1.0, "seconds": 20.0, "launch_wait": 0.7, **({"device_gap": 0.3} if on_gpu else {})}
        found = [warnings.record(step, done=0.5, metrics=metrics) for step in range(10, 80, 10)]
        return [
            warning.sentence for of_record in found for warning in of_record if warning.cause == "launching_held_up"
        ]

    (sentence,) = said(threads=2)
    assert "for 70% of the time" in sentence
    assert "data.workers_in: processes" in sentence
    (other,) = said()
    assert "leave more cores" in other
    assert said(on_gpu=False, threads=2) == []
