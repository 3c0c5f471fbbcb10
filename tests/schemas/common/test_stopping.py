"""Signals: recorded, raised where Python drops the exception, one line, and the exit code of the shell."""

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from openwit.schemas.common.stopping import Stopped, received_signal, stop_if_asked, stoppable

HEAD = """
import signal, threading, time, weakref
from openwit.schemas.common import stopping
from openwit.schemas.common.command import ending_when_stopped, user_errors
from openwit.schemas.common.stopping import stop_if_asked
class Thing: pass
def ask(number=signal.{name}): signal.pthread_kill(threading.main_thread().ident, number)
with ending_when_stopped(), user_errors("wit"):
"""

BODIES = {
    "at once": "ask()",
    "asleep": "threading.Timer(0.2, ask).start(); time.sleep(60)",
    "in a weak reference's callback": "t = Thing(); r = weakref.ref(t, lambda _: ask()); del t; time.sleep(60)",
    "in a finaliser": "Thing.__del__ = lambda self: ask(); Thing(); time.sleep(60)",
    "swallowed by a library": """
        try: ask()
        except BaseException: pass
        stop_if_asked(); time.sleep(60)""",
    "turned into another error": """
        try: ask()
        except BaseException as error: raise RuntimeError(f"{error!r} [while running 'Match']")""",
    "swallowed to the end": """
        try: ask()
        except BaseException: pass""",
    "with a thread that goes on": "threading.Thread(target=time.sleep, args=(60,)).start(); ask()",
}


def run(body: str, name: str) -> subprocess.CompletedProcess[str]:
    script = HEAD.format(name=name) + textwrap.indent(textwrap.dedent(body), "    ")
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_signal_ends_a_command_in_one_line(body: str) -> None:
    done = run(body, "SIGINT")
    assert (done.returncode, done.stderr) == (130, "wit: stopped; run the same command to resume\n")


def test_sigterm_has_its_own_code() -> None:
    done = run(BODIES["asleep"], "SIGTERM")
    assert (done.returncode, done.stderr) == (143, "wit: stopped; run the same command to resume\n")


def test_a_second_signal_ends_at_once() -> None:
    done = run(
        """
        try: ask()
        except BaseException: threading.Timer(0.2, ask).start()
        for _ in range(600): time.sleep(0.1)""",
        "SIGINT",
    )
    assert (done.returncode, done.stderr.strip()) == (130, "wit: stopped; run the same command to resume")


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stoppable("wit"):
            signal.raise_signal(signal.SIGINT)
            assert received_signal() is None
    finally:
        signal.signal(signal.SIGINT, before)


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.unraisablehook
    with pytest.raises(Stopped), stoppable("wit"):
        signal.raise_signal(signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.unraisablehook) == before
    stop_if_asked()
