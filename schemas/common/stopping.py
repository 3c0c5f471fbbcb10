"""Stop a command at Ctrl-C (SIGINT) or SIGTERM for certain, even where the exception of the signal is lost.

Python raises the exception of a signal wherever the main thread happens to be. In a finaliser, a weak reference's
callback or a callback from C the exception is printed and dropped. So the signal is recorded as well: an exception
that is lost is raised again a moment later, and work asks between its parts whether it should end (`stop_if_asked`).
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
REMEDY = "stopped; run the same command to resume"
# Seconds until a command that does not end after a signal is ended; what it wrote is whole or under a temporary name.
_GRACE_S = 20.0
_AGAIN_S = 0.05


class Stopped(KeyboardInterrupt):
    """A signal asked this process to stop."""


class _State:
    """The signal that this process received, and what to do at the next."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.command = ""
        self.timers: list[threading.Timer] = []

    def later(self, seconds: float, work: Any) -> None:
        timer = threading.Timer(seconds, work)
        timer.daemon = True
        self.timers.append(timer)
        timer.start()

    def clear(self) -> None:
        for timer in self.timers:
            timer.cancel()
        self.timers = []
        self.received = None


_state = _State()


def received_signal() -> signal.Signals | None:
    """Return the signal that asked this process to stop; None if there was none."""
    return _state.received


def stop_if_asked() -> None:
    """Raise `Stopped` if a signal was received. Work calls this between its parts."""
    if _state.received is not None:
        raise Stopped(_state.received.name)


@contextmanager
def stoppable(command: str) -> Iterator[None]:
    """Handle signals while the block runs: the first raises `Stopped` in the main thread, a second ends the process.

    Outside the main thread, where Python does not allow handlers, nothing is installed.

    Args:
        command: for the line that a second signal prints.
    """
    if threading.current_thread() is not threading.main_thread() or _state.command:
        yield
        return
    _state.command = command
    before = {number: signal.getsignal(number) for number in SIGNALS}
    hooks = sys.unraisablehook, sys.excepthook
    # A launcher such as nohup lets its commands ignore a signal: that stays.
    for number in SIGNALS:
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, _handle)
    sys.unraisablehook, sys.excepthook = _unraisable(hooks[0]), _printed(hooks[1])
    try:
        yield
    finally:
        sys.unraisablehook, sys.excepthook = hooks
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        _state.command = ""
        _state.clear()


def _handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    if _state.received is not None:
        _end_now()
    _state.received = signal.Signals(number)
    _state.later(_GRACE_S, _end_now)
    raise Stopped(_state.received.name)


def _end_now() -> None:
    received = _state.received or signal.SIGINT
    os.write(2, f"\n{_state.command}: {REMEDY}\n".encode())
    os._exit(128 + received)


def _raise_again() -> None:
    """Interrupt the main thread once more, with the exception of the signal that was lost."""

    def again(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        signal.signal(signal.SIGINT, before)
        raise Stopped((_state.received or signal.SIGINT).name)

    def work() -> None:
        signal.pthread_kill(main, signal.SIGINT)  # sent to the main thread, so that it wakes up

    # Hooks that are told of a lost exception run in the thread that lost it.
    main = threading.main_thread().ident or 0
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, again)
    _state.later(_AGAIN_S, work)


def _is_lost(error: BaseException | None) -> bool:
    return (
        isinstance(error, Stopped)
        and _state.received is not None
        and threading.current_thread() is threading.main_thread()
    )


def _unraisable(hook: Any) -> Any:
    def take(lost: Any) -> None:
        if _is_lost(lost.exc_value):
            _raise_again()
        else:
            hook(lost)

    return take


def _printed(hook: Any) -> Any:
    def take(kind: Any, error: Any, trace: Any) -> None:
        if _is_lost(error):
            _raise_again()
        else:
            hook(kind, error, trace)

    return take
