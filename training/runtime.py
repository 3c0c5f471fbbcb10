"""The machine: device, precision, threads, and glibc's memory allocator."""

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from schemas.errors import UserError

# mallopt parameters of glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGEST_HEAP_BLOCK = 1 << 30


def pick_device(wanted: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device to train on.

    Raises:
        UserError: a GPU is asked for and there is none.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda is asked for, but PyTorch sees no GPU: set device: cpu or auto")
    return torch.device(wanted)


def make_autocast(device: torch.device, precision: Literal["auto", "fp32", "bf16"]) -> torch.autocast:
    """Precision of the towers; weights, embeddings and loss stay in float32.

    `auto` is float32 on a CPU: measured on two AVX-512 cores without matrix units, bf16 autocast takes 1.3 to 2 times
    as long.
    """
    lowered = precision == "bf16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=lowered)


@contextmanager
def cpu_prepared(threads: int | None) -> Iterator[int]:
    """Sets up this process for fast CPU training while the block runs; yields the number of threads used.

    Denormal numbers count as zero: rows of the token embedding that no text uses decay into them, and arithmetic on
    them is many times slower.

    glibc answers each large tensor with fresh pages from the kernel and gives them back when it is freed; faulting
    them in again costs more than the arithmetic of small layers. Told to keep them, the same training step took
    1.37 s instead of 1.94 s (two cores, batch 256, ViT of width 192 on 65 tokens). This part outlasts the block.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_HEAP_BLOCK)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    before = torch.get_num_threads()
    torch.set_num_threads(threads if threads is not None else _cores())
    torch.set_flush_denormal(True)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)


def _cores() -> int:
    # The cores this process may use, which a container or taskset may have cut down.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
