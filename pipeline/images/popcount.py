"""Bits in which two 64-bit values differ, for compiled code (numpy's own is for arrays).

A module of its own that both its users call: nothing here changes, so numba's looking at one file only (see
`compiled`) does no harm.
"""

# Compiled code: numba's numbers, not Python's.
# mypy: disable-error-code="return-value"

import numpy as np

from openwit.pipeline.common.compiled import compiled

_M1, _M2, _M4 = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333), np.uint64(0x0F0F0F0F0F0F0F0F)
_H1, _S1, _S2, _S4, _S56 = np.uint64(0x0101010101010101), np.uint64(1), np.uint64(2), np.uint64(4), np.uint64(56)


@compiled
def differing(a: np.uint64, b: np.uint64) -> int:
    """The number of bits, by adding neighbours in pairs, fours and bytes (Warren, Hacker's Delight, section 5-1)."""
    x = a ^ b
    x -= (x >> _S1) & _M1
    x = (x & _M2) + ((x >> _S2) & _M2)
    x = (x + (x >> _S4)) & _M4
    return np.int64((x * _H1) >> _S56)
