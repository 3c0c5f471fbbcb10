"""Define pools, which run independent items of work: the one thing that an engine without Beam needs.

A pool calls `Work.run` for each item, in this process or in others, and yields the results in the order in which they
end. Items are idempotent: a pool runs an item again when the process that ran it dies.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from openwit.schemas.common.stopping import stop_if_asked

logger = logging.getLogger(__name__)


class Work(Protocol):
    """A kind of work: one function on items. Travels pickled, once per job and worker."""

    def setup(self) -> None:
        """Prepare a worker before its first item."""
        ...

    def run(self, item: Any) -> Any:
        """Do one item; the result travels pickled."""
        ...


class Pool(Protocol):
    """Run items of work."""

    def run(self, work: Work, items: Sequence[Any], names: Sequence[str]) -> Iterator[tuple[int, Any]]:
        """Yield (index of an item, its result) in the order in which items end.

        Args:
            names: of the items, for messages.

        Raises:
            Exception: whatever an item raised; the items that are not finished are given up.
        """
        ...

    def prepare(self) -> None:
        """Begin to start workers, without waiting for them: a stage is about to run."""
        ...

    def check(self) -> None:
        """Raise an OpenWITError if there are no workers, now rather than after hours of other steps."""
        ...

    def close(self) -> None:
        """End the workers; a later `run` starts new ones."""
        ...


class InProcessPool:
    """Run items one after another in this process."""

    def run(self, work: Work, items: Sequence[Any], names: Sequence[str]) -> Iterator[tuple[int, Any]]:  # noqa: ARG002
        """See `Pool`."""
        if items:
            work.setup()
        for index, item in enumerate(items):
            stop_if_asked()
            yield index, work.run(item)

    def prepare(self) -> None:
        """See `Pool`."""

    def check(self) -> None:
        """See `Pool`."""

    def close(self) -> None:
        """See `Pool`."""
