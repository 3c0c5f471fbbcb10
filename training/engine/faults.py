"""Turn what torch raises for exhausted memory, broken connections and failing GPUs into errors of one sentence."""

import platform
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist

from openwit.schemas.common.errors import DeviceError, NetworkError, OpenWITError, one_line
from openwit.schemas.common.storage_faults import storage_error

_SIZE = r"([0-9]+(?:\.[0-9]+)?) (bytes|KiB|MiB|GiB|TiB)"
_ASKED = re.compile(rf"ried to allocate {_SIZE}")
_FREE = re.compile(rf"of which {_SIZE} is free")
_CAPACITY = re.compile(rf"total capacity of {_SIZE}")
# Messages of torch, its libraries and numpy: the allocator of the CPU, page-locked memory, cuBLAS and cuDNN.
_NO_MEMORY = (
    "can't allocate memory",
    "cuda error: out of memory",
    "cuda out of memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "hip out of memory",
    "unable to allocate",
)
_CONNECTION = (
    "connection closed by peer",
    "connection reset by peer",
    "connection refused",
    "broken pipe",
    "socket closed",
    "socket timeout",
    "timed out waiting",
    "application timeout caused pair closure",
    "failed to recv",
    "nccl error",
    "nccl communicator was aborted",
    "store_based_barrier",
    "gloo connect",
)
_GPU_FAILED = ("cuda error", "cudnn_status", "cublas_status", "hip error", "cuda driver error")
_LONGEST = 300


@contextmanager
def device_faults(*, batch: Callable[[], str], rank: int | None = None) -> Iterator[None]:
    """Turn exhausted memory, lost connections and failures of a GPU into an OpenWITError; other errors pass.

    Args:
        batch: describes what was computed, in words, for exhausted memory.
        rank: number of this process; None if it is the only one.
    """
    try:
        yield
    except OpenWITError:
        raise
    except (RuntimeError, MemoryError) as error:
        found = device_error(error, batch=batch(), rank=rank)
        if found is None:
            raise
        raise found from error


def device_error(error: BaseException, *, batch: str = "", rank: int | None = None) -> OpenWITError | None:
    """Return the error of one sentence for something that torch raised; None for another kind of error.

    Args:
        error: what was raised.
        batch: what was computed, in words.
        rank: number of this process; None if it is the only one.
    """
    text = str(error).lower()
    if is_out_of_memory(error):
        return DeviceError(_memory_sentence(error, batch, rank))
    lost = isinstance(error, dist.DistError) or any(part in text for part in _CONNECTION)
    if rank is not None and lost and storage_error(error) is None:
        return NetworkError(
            f"process {rank} lost the connection to the others ({_short(error)}): one of them has ended, or the "
            "network between them is broken; the same command resumes from the last checkpoint"
        )
    if isinstance(error, RuntimeError) and any(part in text for part in _GPU_FAILED):
        return DeviceError(
            f"{_where(rank)}the GPU failed ({_short(error)}): look at its state (nvidia-smi, dmesg); the same command "
            "resumes from the last checkpoint"
        )
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of torch, numpy or Python means that a GPU or the machine has no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(part in str(error).lower() for part in _NO_MEMORY)


def _memory_sentence(error: BaseException, batch: str, rank: int | None) -> str:
    text = str(error)
    on_gpu = isinstance(error, torch.OutOfMemoryError) or "cuda" in text.lower() or "hip out" in text.lower()
    asked = _ASKED.search(text)
    facts = [f"{asked[1]} {asked[2]} were asked for"] if asked is not None else []
    free, capacity = (_FREE.search(text), _CAPACITY.search(text)) if on_gpu else (None, None)
    if free is not None and capacity is not None:
        facts.append(f"{free[1]} {free[2]} of {capacity[1]} {capacity[2]} are free")
    elif not on_gpu and (available := _available()) is not None:
        facts.append(f"{available / 2**30:.1f} GiB are free")
    if batch:
        facts.append(batch)
    what = "the GPU has" if on_gpu else "this machine has"
    said = f" ({'; '.join(facts)})" if facts else f" ({_short(error)})"
    return (
        f"{_where(rank)}{what} not enough memory{said}: lower memory.chunk, set memory.checkpoint_activations, or see "
        "Memory in docs/training.md; the same command resumes from the last checkpoint"
    )


def describe_batch(batch_size: int, processes: int, chunk: int | None) -> str:
    """Return the batch of a process and its chunks in words."""
    share = -(-batch_size // processes)
    of = "" if processes == 1 else f" of the {batch_size:,}"
    pieces = "memory.chunk is null: all at once" if chunk is None else f"memory.chunk {chunk:,}"
    return f"batch {share:,}{of}, {pieces}"


def _available() -> int | None:
    """Return the bytes that a new allocation could have; None where Linux does not tell."""
    if platform.system() != "Linux":
        return None
    found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    return None if found is None else int(found[1]) * 1024


def _where(rank: int | None) -> str:
    return "" if rank is None else f"process {rank}: "


def _short(error: BaseException) -> str:
    return one_line(error, _LONGEST)
