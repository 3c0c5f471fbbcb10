"""Match the classes of a shifted set to those of the base set: ImageNet-R and -A have 200 of them, ObjectNet 113."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openwit.schemas.common.errors import DataError

_WORDNET_ID = re.compile(r"n\d{8}\b")


@dataclass(frozen=True)
class Subset:
    """Classes that two sets share.

    Attributes:
        of_shifted: for each class of the shifted set, the numbers of its base classes; none: its images are left out.
        unmatched: names of the shifted set's classes without a base class.
    """

    of_shifted: tuple[tuple[int, ...], ...]
    unmatched: tuple[str, ...]

    @property
    def base_classes(self) -> list[int]:
        """Return the base classes that a shifted class has, ascending: the only ones that can be predicted."""
        return sorted({number for each in self.of_shifted for number in each})

    def shifted_right(self, scores: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return, of the images of matched classes, whether the best of the shared base classes is one of theirs.

        Args:
            scores: (N, base classes).
            labels: (N,) classes of the shifted set.
        """
        owner = self._owners(scores.shape[1])
        kept = np.array([len(each) > 0 for each in self.of_shifted])[labels]
        return self._right(scores[kept], labels[kept], owner)

    def base_right(self, scores: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return the same of base images; those of classes that are not shared are left out."""
        owner = self._owners(scores.shape[1])
        kept = owner[labels] >= 0
        return self._right(scores[kept], owner[labels[kept]], owner)

    def _owners(self, classes: int) -> NDArray[np.int64]:
        """Return (classes,) the shifted class of each base class, -1 for none."""
        owner = np.full(classes, -1)
        for number, each in enumerate(self.of_shifted):
            owner[list(each)] = number
        return owner

    def _right(
        self, scores: NDArray[np.float32], labels: NDArray[np.int64], owner: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Ties and NaN go to the wrong classes, as in all our accuracies."""
        shared = np.flatnonzero(owner >= 0)
        own = owner[shared][None, :] == labels[:, None]
        chosen = scores[:, shared]
        best = np.where(own & ~np.isnan(chosen), chosen, -np.inf).max(axis=1, initial=-np.inf)
        wrong = np.where(own, -np.inf, np.where(np.isnan(chosen), np.inf, chosen)).max(axis=1, initial=-np.inf)
        right: NDArray[np.bool_] = best > wrong
        return right


def match_classes(
    base: Sequence[str], shifted: Sequence[str], given: Mapping[str, Sequence[str]] | None = None
) -> Subset:
    """Match classes by WordNet id where both have one, else by name, ignoring case, hyphens and underscores.

    Args:
        base, shifted: names of the classes; an id may stand before or instead of a name.
        given: base classes of shifted classes, by name, which come first; several for one are all right for it.

    Raises:
        DataError: fewer than two classes match, a given name is not there, or two shifted classes share a base class.
    """
    numbers: dict[str, int] = {}
    for number, name in enumerate(base):
        for key in _keys(name):
            numbers.setdefault(key, number)
    table: list[tuple[int, ...]] = []
    for name in shifted:
        wanted = (given or {}).get(name)
        if wanted is None:
            table.append(next(((numbers[key],) for key in _keys(name) if key in numbers), ()))
            continue
        missing = [one for one in wanted if _keys(one)[0] not in numbers]
        if missing:
            raise DataError(f"class {name!r} is mapped to {missing[0]!r}, which the base set does not have")
        table.append(tuple(dict.fromkeys(numbers[_keys(one)[0]] for one in wanted)))
    used = [number for each in table for number in each]
    if len(set(used)) < len(used):
        twice = next(number for number in used if used.count(number) > 1)
        raise DataError(f"two classes of the shifted set are {base[twice]!r} of the base set: map each to its own")
    if sum(len(each) > 0 for each in table) < 2:
        raise DataError(
            f"of the {len(shifted)} classes of the shifted set fewer than two are among the {len(base)} of the base "
            f"set (such as {shifted[0]!r} and {base[0]!r}): give a mapping"
        )
    unmatched = tuple(name for name, each in zip(shifted, table, strict=True) if not each)
    return Subset(tuple(table), unmatched)


def _keys(name: str) -> list[str]:
    """Return what a name is found by: its WordNet id, then its words."""
    words = " ".join(name.replace("_", " ").replace("-", " ").casefold().split())
    found = _WORDNET_ID.search(name)
    return [words] if found is None else [found[0], words]
