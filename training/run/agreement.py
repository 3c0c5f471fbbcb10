"""What all ranks must know of a step, in one exchange between the hosts, before the loss."""

from dataclasses import dataclass
from signal import Signals

from openwit.training.data.loader import CorruptCount
from openwit.training.engine.distributed import Group

_MICROSECONDS = 1e6


@dataclass(frozen=True)
class Clock:
    """Times of a process in seconds of training.

    Attributes:
        begun: when the step began.
        last_step: what the step before took.
        now: the time of the exchange; with several processes it stands for the end of the step, so that what depends
            on the clock (checkpoints, evaluations, the end) is decided alike by all without another exchange.
    """

    begun: float
    last_step: float
    now: float


@dataclass(frozen=True)
class Agreed:
    """Result of an exchange.

    Attributes:
        rank_sizes: samples of each rank.
        clock: rank 0's.
        signal: that any rank had received.
    """

    rank_sizes: list[int]
    clock: Clock
    signal: Signals | None


class Agreement:
    """The exchange of each step, which also stops the run if too many samples are unreadable.

    Args:
        group: the processes that share the batch; None for a single process.
        corrupt: counts this process's unreadable samples.
    """

    def __init__(self, group: Group | None, corrupt: CorruptCount) -> None:
        self._group, self._corrupt = group, corrupt
        self._known = len(corrupt.keys)

    def reach(self, samples: int, clock: Clock, signal: Signals | None) -> Agreed:
        """Exchange; the parts of the batch have been noted by the counter.

        Args:
            samples: readable ones of this process in this step.
            clock: of this process.
            signal: that this process has received.

        Raises:
            DataError: too many samples are unreadable, or all of the step.
        """
        corrupt, group = self._corrupt, self._group
        if group is None:
            corrupt.check(len(corrupt.keys), samples)
            return Agreed([samples], clock, signal)
        times = (clock.begun, clock.last_step, clock.now)
        row = [samples, len(corrupt.keys), int(signal or 0), *(round(time * _MICROSECONDS) for time in times)]
        table = group.all_gather_rows(row)
        rank_sizes = [row[0] for row in table]
        # Samples that were known at the start are known to every rank.
        corrupt.check(sum(row[1] for row in table) - self._known * (group.size - 1), sum(rank_sizes))
        number = max(row[2] for row in table)
        first = Clock(*(time / _MICROSECONDS for time in table[0][3:]))
        return Agreed(rank_sizes, first, Signals(number) if number else None)
