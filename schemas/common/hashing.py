"""Hash arrays with splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014)."""

import numpy as np
from numpy.typing import NDArray

GOLDEN, MIX_1, MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""Increment and multipliers of splitmix64."""


def splitmix64(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the next output of splitmix64 for each state: a bijection on uint64 that scatters every bit."""
    with np.errstate(over="ignore"):
        return splitmix64_finalise(values + np.uint64(GOLDEN))


def splitmix64_finalise(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the finaliser of splitmix64: every bit of the input affects every bit of the output."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(MIX_1)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(MIX_2)
    return values ^ (values >> np.uint64(31))
