"""Tune glibc's memory allocator for work on many large buffers."""

import ctypes
import sys

# <malloc.h>
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory(largest_bytes: int, *, kept_bytes: int) -> None:
    """Keep freed memory in the process instead of returning it to the kernel; a no-op without glibc.

    glibc maps each large buffer page by page and unmaps it when it is freed. Faulting the pages in again costs as much
    as the work on them.

    Args:
        largest_bytes: buffers above this size are mapped and returned as before.
        kept_bytes: maximum free memory kept at the top of the heap (per thread).
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(_M_MMAP_THRESHOLD, largest_bytes)
    mallopt(_M_TRIM_THRESHOLD, kept_bytes)
