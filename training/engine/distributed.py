"""Process-group setup and collectives.

One process per GPU (or, for tests, several on a CPU), started by torchrun or by Slurm's srun. Tensors on a GPU are
communicated by NCCL; what the hosts must agree on (sizes, signals, errors) is sent as CPU tensors by gloo, so that it
never waits for a GPU.

Every rank's loss is its share of the whole batch's, so gradients are summed over ranks, never averaged.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import TCPStore

from openwit.schemas.common.errors import NetworkError, OpenWITError, RecipeError
from openwit.training.engine.watch import ending_with_others

Result = TypeVar("Result")

# Elements that are flattened into one message: 100 MB in float32. Larger ones gain nothing, smaller ones add latency.
BUCKET_ELEMENTS = 25_000_000

# Ports of Slurm jobs, away from the usual ones; jobs that share a node differ in their number.
_FIRST_PORT, _PORTS = 29_500, 1_000

# Ranks that find the same error find it in the same step, so within moments of one another.
_SCONTROL_SECONDS = 60
_STORE_SECONDS = 1.0


class SilentExit(SystemExit):
    """Another rank has reported the error; this one exits with the same code and prints nothing."""


@dataclass(frozen=True)
class ProcessInfo:
    """Rank and rendezvous address of this process."""

    rank: int
    size: int
    local_rank: int
    address: str
    port: int


def process_from_environment(environment: "os._Environ[str] | dict[str, str] | None" = None) -> ProcessInfo | None:
    """Read the variables of torchrun or srun; None if this is the only process.

    Of Slurm only the variables of the step count: a shell inside an allocation of many tasks is one process.

    Raises:
        RecipeError: the variables are set, but incomplete or not numbers.
    """
    known = os.environ if environment is None else environment
    try:
        if int(known.get("WORLD_SIZE", "1")) > 1 and "RANK" in known:
            return ProcessInfo(
                int(known["RANK"]),
                int(known["WORLD_SIZE"]),
                int(known.get("LOCAL_RANK", known["RANK"])),
                known["MASTER_ADDR"],
                int(known["MASTER_PORT"]),
            )
        if int(known.get("SLURM_STEP_NUM_TASKS", "1")) > 1 and "SLURM_PROCID" in known:
            port = _FIRST_PORT + int(known.get("SLURM_JOB_ID", "0")) % _PORTS
            return ProcessInfo(
                int(known["SLURM_PROCID"]),
                int(known["SLURM_STEP_NUM_TASKS"]),
                int(known.get("SLURM_LOCALID", "0")),
                known.get("MASTER_ADDR") or _first_host(known),
                int(known.get("MASTER_PORT", port)),
            )
    except (KeyError, ValueError) as error:
        raise RecipeError(
            f"the launcher's environment is incomplete ({error}): start with torchrun or srun"
        ) from error
    return None


def is_node_main() -> bool:
    """Return whether this process prints what all processes would: the first one of its machine."""
    place = process_from_environment()
    return place is None or place.local_rank == 0


class Group:
    """Collectives of the processes that share a batch.

    Args:
        rank: number of this process, from 0.
        size: number of processes.
    """

    sizes: list[int] | None = None
    """Samples of each rank in the step that is being computed, as the engine exchanged them; None: not known."""

    def __init__(self, rank: int, size: int) -> None:
        self._rank, self._size = rank, size

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return self._rank

    @property
    def size(self) -> int:
        """Number of processes."""
        return self._size

    @property
    def main(self) -> bool:
        """Whether this process prints, logs and writes."""
        return self._rank == 0

    def gather_with_grad(self, tensor: Tensor, counts: list[int] | None = None) -> Tensor:
        """Gather (b, ...) to (B, ...) of all ranks in rank order; b may differ and may be 0.

        In the backward pass, the gradients of all ranks for this rank's rows are summed. If the shares of the ranks
        sum to the loss, that is the gradient of the loss (without a factor of the number of processes).

        Args:
            tensor: of this rank.
            counts: b of each rank, if all ranks know them; None: they are exchanged.
        """
        counts = self.all_gather_ints(len(tensor)) if counts is None else counts
        gathered: Tensor = _Gather.apply(tensor, self._rank, counts)  # type: ignore[no-untyped-call]
        return gathered

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the tensor summed over ranks, as a new one without a gradient."""
        total = tensor.detach().clone()
        dist.all_reduce(total)
        return total

    def all_gather_ints(self, value: int) -> list[int]:
        """Return each rank's number; exchanged between hosts only."""
        return [row[0] for row in self.all_gather_rows([value])]

    def all_gather_rows(self, row: list[int]) -> list[list[int]]:
        """Return each rank's row of numbers; exchanged between hosts only."""
        numbers = torch.zeros((self._size, len(row)), dtype=torch.int64)
        numbers[self._rank] = torch.tensor(row)
        dist.all_reduce(numbers)
        known: list[list[int]] = numbers.tolist()
        return known

    def all_gather_objects(self, value: Result) -> list[Result]:
        """Return each rank's picklable value."""
        found: list[Any] = [None] * self._size
        dist.all_gather_object(found, value)
        return found

    def broadcast_object(self, value: Result) -> Result:
        """Return rank 0's picklable value; those of other ranks are ignored."""
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def broadcast(self, tensor: Tensor) -> None:
        """Overwrite the tensor by rank 0's."""
        dist.broadcast(tensor, src=0)

    def barrier(self) -> None:
        """Wait for all ranks."""
        self.all_gather_ints(0)

    def all_reduce(self, tensors: list[Tensor]) -> None:
        """Sum tensors over ranks in place, many per message, all messages at once."""
        pending = []
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            pending.append((dist.all_reduce(flat, async_op=True), flat, bucket))
        for work, flat, bucket in pending:
            work.wait()
            parts = torch.split(flat, [tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def on_all_ranks(self, work: Callable[[], Result]) -> Result:
        """Run something that may fail on some ranks only; then it fails on all, with the first failing rank's error.

        Raises:
            OpenWITError: of any rank, of its class.
        """
        found: Result | None = None
        failure: tuple[type[OpenWITError], str] | None = None
        try:
            found = work()
        except OpenWITError as error:
            failure = type(error), str(error)
        for failed in self.all_gather_objects(failure):
            if failed is not None:
                kind, sentence = failed
                raise kind(sentence)
        return found  # type: ignore[return-value]


class _Gather(torch.autograd.Function):
    """See `Group.gather_with_grad`. Rows are padded to the longest rank's, as collectives need equal shapes.

    The backward pass reduces and scatters: a rank receives the sum of its own rows only, which is half of what an
    all-reduce sends.
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, rank: int, counts: list[int]) -> Tensor:
        ctx.rank, ctx.counts = rank, counts
        longest = max(counts)
        padded = tensor.new_zeros((longest, *tensor.shape[1:]))
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        whole, longest = gradients[0], max(ctx.counts)
        if min(ctx.counts) < longest:
            padded = whole.new_zeros((len(ctx.counts), longest, *whole.shape[1:]))
            for row, part in zip(padded, torch.split(whole, ctx.counts), strict=True):
                row[: len(part)] = part
            whole = padded.flatten(0, 1)
        own = whole.new_empty((longest, *whole.shape[1:]))
        _reduce_scatter(own, whole.contiguous())
        return own[: ctx.counts[ctx.rank]], None, None


# torch 2.13 renamed it, and warns of the name that releases before have.
_reduce_scatter: Any = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


def _buckets(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    """Group tensors of one dtype, in order, up to `BUCKET_ELEMENTS` elements each."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and (size + tensor.numel() > BUCKET_ELEMENTS or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.numel()
    if bucket:
        yield bucket


@torch.no_grad()
def average_buffers(model: nn.Module, group: Group) -> None:
    """Average the running statistics of batch normalisation, which each rank has of its own samples."""
    # Frozen statistics are equal on all ranks, and a mean would round them.
    frozen = [module for module in model.modules() if getattr(module, "statistics_frozen", False)]
    kept = {id(buffer) for module in frozen for buffer in module.buffers(recurse=False)}
    floating = [b for b in model.buffers() if b.is_floating_point() and id(b) not in kept]
    if floating:
        group.all_reduce(floating)
        for buffer in floating:
            buffer.div_(group.size)


@contextmanager
def process_group(device: str, timeout_minutes: float) -> Iterator[Group | None]:
    """Join the run's other processes while the block runs; yields None if there are none.

    An error on any rank ends all: the first to fail reports it, the others exit silently.

    Args:
        device: the device setting: auto, cpu or cuda.
        timeout_minutes: how long a rank waits for the others before it gives up.
    """
    place = process_from_environment()
    if place is None:
        yield None
        return
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        if place.local_rank >= torch.cuda.device_count():
            raise RecipeError(
                f"process {place.local_rank} of this machine has no GPU ({torch.cuda.device_count()} are "
                "there): start as many processes as there are GPUs, or set device: cpu"
            )
        torch.cuda.set_device(place.local_rank)
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
            init_method=None if "TORCHELASTIC_RUN_ID" in os.environ else f"tcp://{place.address}:{place.port}",
            rank=place.rank,
            world_size=place.size,
            timeout=timedelta(minutes=timeout_minutes),
        )
    except (RuntimeError, ValueError) as error:
        raise NetworkError(
            f"process {place.rank} cannot reach the others at {place.address}:{place.port} ({_line(error)})"
        ) from error
    with _first_error_only(place.rank, place.size):
        yield Group(place.rank, place.size)
    # Only after success: with a rank missing, this could wait for ever.
    dist.destroy_process_group()


@contextmanager
def _first_error_only(rank: int, size: int) -> Iterator[None]:
    store = _own_connection(dist.distributed_c10d._get_default_store())
    try:
        with ending_with_others(lambda: _count_errors(store, 0) > 0):
            yield
    except (OpenWITError, OSError):
        reported = _count_errors(store, 1)
        if rank == 0:
            _wait_for_other_ranks(store, size)
        if reported > 1:
            raise SilentExit(2) from None
        raise
    except Exception as error:
        # When another rank exits, its connections close: the error here is then a consequence.
        if isinstance(error, RuntimeError) and _count_errors(store, 0) > 0:
            raise SilentExit(2) from None
        _count_errors(store, 1)
        raise


def _own_connection(store: Any) -> Any:
    """Return the store over a connection of its own: one that waits for a key lets nobody else ask."""
    while hasattr(store, "underlying_store"):
        store = store.underlying_store
    if not isinstance(store, TCPStore):
        return store
    return TCPStore(store.host, store.port, is_master=False, wait_for_workers=False)


def _count_errors(store: Any, more: int) -> int:
    """Return how many ranks have reported an error, including this one if `more` is 1."""
    try:
        # torchrun's store outlives the processes that it starts again.
        return int(store.add(f"openwit/errors/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", more))
    except RuntimeError:
        # Rank 0 held the store and has exited, so it has reported the error.
        return 2


def _wait_for_other_ranks(store: Any, size: int) -> None:
    """Keep rank 0's store alive for a moment, so that ranks with the same error can ask who reports it."""
    until = time.monotonic() + _STORE_SECONDS
    while time.monotonic() < until and _count_errors(store, 0) < size:
        time.sleep(0.01)


def _first_host(environment: "os._Environ[str] | dict[str, str]") -> str:
    nodes = environment["SLURM_STEP_NODELIST"]
    if not any(mark in nodes for mark in "[,"):
        return nodes
    try:
        command = ["scontrol", "show", "hostnames", nodes]
        shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_SCONTROL_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        raise RecipeError(f"scontrol does not list the hosts of {nodes} ({error}): set MASTER_ADDR") from error
    return shown.stdout.split()[0]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
