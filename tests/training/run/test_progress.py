import dataclasses
import io

import pytest
from rich.console import Console

from openwit.training.cli.display import LiveDisplay, PlainDisplay, make_display
from openwit.training.run.progress import Status, clock

STATUS = Status(120, 460, 30720, 162.4, 4.8123, 14.9, 9.2e-4, 0.004, 0.26, 192.3)


def test_a_line_says_everything() -> None:
    assert STATUS.line() == ("step 120/460  162 samples/s  loss 4.812  scale 14.9  lr 9.20e-04  wait 0.4%  left 3:12")


def test_the_first_line_says_nothing_that_is_not_known() -> None:
    first = dataclasses.replace(STATUS, rate=None, left=None)
    assert first.line() == "step 120/460  loss 4.812  scale 14.9  lr 9.20e-04  wait 0.4%"
    assert "0.4 samples/s" in dataclasses.replace(STATUS, rate=0.42).line()


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (65, "1:05"), (3723, "1:02:03")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_plain_output_is_one_line_each_and_no_markup() -> None:
    out = io.StringIO()
    display = make_display(Console(file=out, width=40), 0.0)
    assert isinstance(display, PlainDisplay)
    display.show(STATUS)
    display.say("[red]is not a colour here[/red]")
    display.activity("evaluating", 1, 2)
    display.close()
    assert out.getvalue().splitlines() == [STATUS.line(), "[red]is not a colour here[/red]", "evaluating: 1/2"]


def test_plain_output_waits_between_lines() -> None:
    assert not PlainDisplay(Console(file=io.StringIO()), 1000).wants()


def test_a_terminal_gets_a_live_line() -> None:
    out = io.StringIO()
    display = make_display(Console(file=out, force_terminal=True, width=140), 10)
    assert isinstance(display, LiveDisplay)
    display.show(STATUS)
    display.say("a sentence")
    display.close()
    assert "a sentence" in out.getvalue()
    assert "step 120/460" in out.getvalue()
