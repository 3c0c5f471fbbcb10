"""Define drop reasons: the name that tables and manifests hold, together with its meaning."""

import enum
import re
from collections.abc import Callable, Iterable
from typing import Any

_NAME = re.compile(r"[a-z0-9_]{1,60}")


class Reason(str):
    """A string, the reason's name, with the attribute `meaning`: a part of a sentence for the card.

    It compares, hashes, pickles and is written as its name.

    Raises:
        ValueError: the name holds anything but a-z, 0-9 and underscores, or is empty or longer than 60.
    """

    __slots__ = ("meaning",)
    meaning: str

    def __new__(cls, name: str, meaning: str) -> "Reason":
        """Make a reason."""
        if not is_reason_name(name):
            raise ValueError(f"{name!r} is not a reason: use a-z, 0-9 and underscores")
        made = super().__new__(cls, name)
        made.meaning = meaning
        return made

    def __reduce__(self) -> tuple[Callable[..., "Reason"], tuple[Any, ...]]:
        return Reason, (str(self), self.meaning)


def is_reason_name(name: str) -> bool:
    """Return whether a string may name a reason: 1 to 60 of a-z, 0-9 and underscore."""
    return _NAME.fullmatch(name) is not None


class ReasonEnum(enum.StrEnum):
    """A closed set of reasons as an enumeration; each member is written as `NAME = "word", "meaning"`."""

    meaning: str

    def __new__(cls, word: str, meaning: str = "") -> "ReasonEnum":
        """Make a member of its word and its meaning; later calls look a word up."""
        member = str.__new__(cls, word)
        member._value_ = word
        member.meaning = meaning
        return member

    @classmethod
    def reasons(cls) -> tuple[Reason, ...]:
        """Return the members as reasons."""
        return tuple(Reason(member.value, member.meaning) for member in cls)


def unique(*groups: Iterable[Reason]) -> tuple[Reason, ...]:
    """Join lists of reasons; a reason that several hold is kept once, with the meaning of the first."""
    found: dict[str, Reason] = {}
    for group in groups:
        for reason in group:
            found.setdefault(reason, reason)
    return tuple(found.values())
