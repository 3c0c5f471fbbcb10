"""The processes of a run: who they are, and what they tell one another.

One process a GPU (or, for tests, several on a CPU), started by torchrun or by Slurm's srun. Tensors on a GPU travel
by NCCL; what the hosts must agree on (sizes, signals, errors) travels as CPU tensors by gloo, so that agreeing never
waits for a GPU.

Every rank's loss is its share of the whole batch's, so gradients are added up over ranks, never averaged.
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

from openwit.schemas.common.errors import OpenWITError

Result = TypeVar("Result")

# Elements that are flattened into one message: 100 MB in float32. Larger ones gain nothing, smaller ones cost latency.
BUCKET_ELEMENTS = 25_000_000

# A Slurm job's own port, away from the usual ones; jobs that share a node differ in their number.
_FIRST_PORT, _PORTS = 29_500, 1_000

# Ranks that find the same error find it in the same step, so within moments of one another.
_QUESTIONS_SECONDS = 1.0


class QuietExit(SystemExit):
    """Another rank has said what is wrong; this one leaves with the same exit code and without a word."""


@dataclass(frozen=True)
class Place:
    """This process among those of the run."""

    rank: int
    size: int
    local_rank: int
    address: str
    port: int


def place_from_environment(environment: "os._Environ[str] | dict[str, str] | None" = None) -> Place | None:
    """What torchrun or srun say about this process; None where it is the only one.

    Of Slurm only the step's own variables count: a shell inside an allocation of many tasks is one process.

    Raises:
        OpenWITError: the variables are there, but make no sense.
    """
    known = os.environ if environment is None else environment
    try:
        if int(known.get("WORLD_SIZE", "1")) > 1 and "RANK" in known:
            return Place(
                int(known["RANK"]),
                int(known["WORLD_SIZE"]),
                int(known.get("LOCAL_RANK", known["RANK"])),
                known["MASTER_ADDR"],
                int(known["MASTER_PORT"]),
            )
        if int(known.get("SLURM_STEP_NUM_TASKS", "1")) > 1 and "SLURM_PROCID" in known:
            port = _FIRST_PORT + int(known.get("SLURM_JOB_ID", "0")) % _PORTS
            return Place(
                int(known["SLURM_PROCID"]),
                int(known["SLURM_STEP_NUM_TASKS"]),
                int(known.get("SLURM_LOCALID", "0")),
                known.get("MASTER_ADDR") or _first_host(known),
                int(known.get("MASTER_PORT", port)),
            )
    except (KeyError, ValueError) as error:
        raise OpenWITError(
            f"the launcher's environment is incomplete ({error}): start with torchrun or srun"
        ) from error
    return None


def speaks() -> bool:
    """Whether this process prints what all processes would: the first one of its machine."""
    place = place_from_environment()
    return place is None or place.local_rank == 0


class Group:
    """The processes that share a batch, from inside one of them.

    Args:
        rank: number of this process, from 0.
        size: number of processes.
    """

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

    def gather_with_grad(self, tensor: Tensor) -> Tensor:
        """(b, ...) to (B, ...) of all ranks in rank order; b may differ, 0 included.

        Going back, the gradients that all ranks have for this rank's rows are added up. Where the shares of the ranks
        add up to the loss, that is the loss's own gradient (no factor of the number of processes is left over).
        """
        gathered: Tensor = _Gather.apply(tensor, self)  # type: ignore[no-untyped-call]
        return gathered

    def sum(self, tensor: Tensor) -> Tensor:
        """The tensor added up over ranks, as a new one; no gradient goes through it."""
        total = tensor.detach().clone()
        dist.all_reduce(total)
        return total

    def rows(self, own: int) -> list[int]:
        """Each rank's number, known to all; between hosts only."""
        return [row[0] for row in self.table([own])]

    def table(self, own: list[int]) -> list[list[int]]:
        """Each rank's row of numbers, known to all; between hosts only."""
        numbers = torch.zeros((self._size, len(own)), dtype=torch.int64)
        numbers[self._rank] = torch.tensor(own)
        dist.all_reduce(numbers)
        known: list[list[int]] = numbers.tolist()
        return known

    def objects(self, own: Result) -> list[Result]:
        """Each rank's picklable value, known to all."""
        found: list[Any] = [None] * self._size
        dist.all_gather_object(found, own)
        return found

    def from_main(self, value: Result) -> Result:
        """Rank 0's picklable value; the other ranks' are ignored."""
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def broadcast(self, tensor: Tensor) -> None:
        """Overwrites the tensor by rank 0's."""
        dist.broadcast(tensor, src=0)

    def barrier(self) -> None:
        """Waits for all ranks."""
        self.rows(0)

    def add_up(self, tensors: list[Tensor]) -> None:
        """Adds tensors up over ranks in place, many to a message, all messages under way at once."""
        pending = []
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            pending.append((dist.all_reduce(flat, async_op=True), flat, bucket))
        for work, flat, bucket in pending:
            work.wait()
            parts = torch.split(flat, [tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def share_tree(self, tree: Any) -> Any:
        """Rank 0's nested dicts and lists of tensors and plain values, on the CPU of every rank.

        Tensors go one by one, so that no rank holds a second copy of the whole.
        """
        skeleton = self.from_main(_without_tensors(tree) if self.main else None)
        return self._filled(skeleton, tree if self.main else None)

    def _filled(self, skeleton: Any, tree: Any) -> Any:
        if isinstance(skeleton, _Hole):
            tensor = tree.cpu() if tree is not None else torch.empty(skeleton.shape, dtype=skeleton.dtype)
            flat = tensor.contiguous()
            self.broadcast(flat)
            return flat
        if isinstance(skeleton, dict):
            return {
                name: self._filled(part, tree[name] if tree is not None else None) for name, part in skeleton.items()
            }
        if isinstance(skeleton, list):
            return [self._filled(part, tree[i] if tree is not None else None) for i, part in enumerate(skeleton)]
        return skeleton

    def together(self, work: Callable[[], Result]) -> Result:
        """Does something that may fail on one rank only; then it fails on all, with the first failing rank's sentence.

        Raises:
            OpenWITError: on any rank.
        """
        found: Result | None = None
        trouble = None
        try:
            found = work()
        except OpenWITError as error:
            trouble = str(error)
        for sentence in self.objects(trouble):
            if sentence is not None:
                raise OpenWITError(sentence)
        return found  # type: ignore[return-value]


@dataclass(frozen=True)
class _Hole:
    """Where a tensor stands in a tree."""

    shape: tuple[int, ...]
    dtype: torch.dtype


def _without_tensors(tree: Any) -> Any:
    if isinstance(tree, Tensor):
        return _Hole(tuple(tree.shape), tree.dtype)
    if isinstance(tree, dict):
        return {name: _without_tensors(part) for name, part in tree.items()}
    if isinstance(tree, list):
        return [_without_tensors(part) for part in tree]
    return tree


class _Gather(torch.autograd.Function):
    """See `Group.gather_with_grad`. Rows are padded to the longest rank's, as collectives want equal shapes."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, group: Group) -> Tensor:
        counts = group.rows(len(tensor))
        ctx.group, ctx.start, ctx.count = group, sum(counts[: group.rank]), len(tensor)
        longest = max(counts)
        padded = tensor.new_zeros((longest, *tensor.shape[1:]))
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        whole = gradients[0].contiguous().clone()
        dist.all_reduce(whole)
        return whole[ctx.start : ctx.start + ctx.count], None


def _buckets(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors of one kind each, in order, up to `BUCKET_ELEMENTS` together."""
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
    """Gives all ranks the mean of the running statistics that each has of its own samples (batch normalisation)."""
    floating = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
    if floating:
        group.add_up(floating)
        for buffer in floating:
            buffer.div_(group.size)


@contextmanager
def joined(wanted: str, timeout_minutes: float) -> Iterator[Group | None]:
    """Joins the run's other processes while the block runs; yields None where there are none.

    An error on any rank ends all: the first to fail says its sentence, the others leave quietly.

    Args:
        wanted: the device setting: auto, cpu or cuda.
        timeout_minutes: how long a rank waits for the others before it gives up.
    """
    place = place_from_environment()
    if place is None:
        yield None
        return
    on_gpu = wanted != "cpu" and torch.cuda.is_available()
    if on_gpu:
        if place.local_rank >= torch.cuda.device_count():
            raise OpenWITError(
                f"process {place.local_rank} of this machine has no GPU of its own ({torch.cuda.device_count()} there "
                "are): start as many processes as there are GPUs, or set device: cpu"
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
        raise OpenWITError(
            f"process {place.rank} cannot reach the others at {place.address}:{place.port} ({_line(error)})"
        ) from error
    with _one_voice(place.rank, place.size):
        yield Group(place.rank, place.size)
    # Only where all went well: with a rank missing, taking leave of the others could wait for ever.
    dist.destroy_process_group()


@contextmanager
def _one_voice(rank: int, size: int) -> Iterator[None]:
    store = dist.distributed_c10d._get_default_store()
    try:
        yield
    except (OpenWITError, OSError):
        told = _told(store, 1)
        if rank == 0:
            _wait_for_questions(store, size)
        if told > 1:
            raise QuietExit(2) from None
        raise
    except RuntimeError:
        # A rank that left takes its connections with it: what then fails here is not this rank's trouble.
        if _told(store, 0) > 0:
            raise QuietExit(2) from None
        raise


def _told(store: Any, more: int) -> int:
    """How many ranks have reported an error, this one included where `more` is 1; 0 where nobody answers."""
    try:
        return int(store.add("openwit/errors", more))
    except RuntimeError:
        # Rank 0 held the store and is gone, so it has spoken.
        return 2


def _wait_for_questions(store: Any, size: int) -> None:
    """Rank 0 takes the store with it when it leaves: time for ranks that met the same error to ask who speaks."""
    until = time.monotonic() + _QUESTIONS_SECONDS
    while time.monotonic() < until and _told(store, 0) < size:
        time.sleep(0.01)


def _first_host(environment: "os._Environ[str] | dict[str, str]") -> str:
    nodes = environment["SLURM_STEP_NODELIST"]
    if not any(mark in nodes for mark in "[,"):
        return nodes
    try:
        shown = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise OpenWITError(f"scontrol does not tell the hosts of {nodes} ({error}): set MASTER_ADDR") from error
    return shown.stdout.split()[0]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
