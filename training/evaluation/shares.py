"""Divide an evaluation over the processes of a run: each takes every n-th batch, and all get everything in order.

Batches are those of one process, so the numbers are the same as by one. A sharded model gathers its weights with each
batch, so all ranks need the same number of them: `padded` says so, and a rank without a batch computes a blank one.
"""

from dataclasses import dataclass
from typing import TypeVar

from openwit.training.engine.distributed import Group

Part = TypeVar("Part")


@dataclass(frozen=True)
class Shares:
    """The part of one process in the batches of an evaluation.

    Attributes:
        group: the processes; None: this one takes all.
        padded: all ranks go through the same number of batches, the last of which may be None.
    """

    group: Group | None = None
    padded: bool = False

    def of(self, batches: int) -> list[int | None]:
        """Return the numbers of this process's batches, None for a blank one."""
        if self.group is None:
            return list(range(batches))
        own: list[int | None] = list(range(self.group.rank, batches, self.group.size))
        rounds = -(-batches // self.group.size) if self.padded else len(own)
        return own + [None] * (rounds - len(own))

    def joined(self, parts: dict[int, Part]) -> list[Part]:
        """Return the results of all processes in the order of the batches; all must call."""
        if self.group is None:
            return [parts[number] for number in sorted(parts)]
        every = {number: part for of_rank in self.group.all_gather_objects(parts) for number, part in of_rank.items()}
        return [every[number] for number in sorted(every)]


ALONE = Shares()
