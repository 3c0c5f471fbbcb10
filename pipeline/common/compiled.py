"""Compile functions with numba: the one decorator for it, and a bit count that several kernels call."""

# Compiled code: numba's numbers, not Python's.
# mypy: disable-error-code="return-value"

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a function at its first call, without the GIL, and cache the machine code on disk where possible.

    numba invalidates a cached function only when its own file changes: keep a compiled function and those it calls in
    one module. `differing_bits` is the exception, because it never changes.
    """
    options: dict[str, Any] = {"nogil": True, "boundscheck": False, "error_model": "numpy"}
    try:
        made: Function = numba.njit(cache=True, **options)(function)
    except RuntimeError:
        # Neither the package's folder nor the user's cache is writable: every process compiles for itself.
        made = numba.njit(**options)(function)
    return made


_M1, _M2, _M4 = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333), np.uint64(0x0F0F0F0F0F0F0F0F)
_H1, _S1, _S2, _S4, _S56 = np.uint64(0x0101010101010101), np.uint64(1), np.uint64(2), np.uint64(4), np.uint64(56)


@compiled
def differing_bits(a: np.uint64, b: np.uint64) -> int:
    """Count the bits in which two 64-bit values differ, for compiled code (numpy's own count is for arrays).

    Adds neighbours in pairs, fours and bytes (Warren, Hacker's Delight, section 5-1).
    """
    x = a ^ b
    x -= (x >> _S1) & _M1
    x = (x & _M2) + ((x >> _S2) & _M2)
    x = (x + (x >> _S4)) & _M4
    return np.int64((x * _H1) >> _S56)
