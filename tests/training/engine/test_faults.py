"""What torch raises for memory, connections and GPUs becomes one sentence, and anything else passes."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
from support.failing import GPU_FULL

from openwit.schemas.common.errors import DataError, DeviceError, NetworkError, OpenWITError
from openwit.training.engine.faults import describe_batch, device_error, device_faults

CLOSED = "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:41234"


def sentence(error: BaseException, rank: int | None = None) -> str:
    with pytest.raises(OpenWITError) as caught, device_faults(batch=lambda: "batch 8, memory.chunk 4", rank=rank):
        raise error
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is error
    return f"{type(caught.value).__name__}: {caught.value}"


def test_a_full_gpu_is_told_with_its_numbers() -> None:
    said = sentence(torch.OutOfMemoryError(GPU_FULL), rank=3)
    assert said.startswith("DeviceError: process 3: the GPU has not enough memory (20.00 GiB were asked for; ")
    assert "3.06 GiB of 79.11 GiB are free; batch 8, memory.chunk 4" in said
    assert "lower memory.chunk" in said


def test_exhausted_memory_of_the_machine_is_told_with_its_numbers() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    said = sentence(caught.value)
    assert "this machine has not enough memory (1152921504606846976 bytes were asked for; " in said
    assert "GiB are free" in said
    assert "lower memory.chunk" in said
    with pytest.raises(MemoryError) as caught_by_numpy:
        np.empty(2**60, dtype=np.uint8)
    assert "not enough memory" in sentence(caught_by_numpy.value)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(CLOSED),
        dist.DistBackendError("NCCL error in: ProcessGroupNCCL.cpp:77, remote process exited"),
        dist.DistNetworkError("The client socket has timed out after 60000ms"),
        RuntimeError("[enforce fail] Timed out waiting 1800000ms for recv operation to complete"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_lost_connection_is_a_sentence_where_there_are_others(error: RuntimeError) -> None:
    assert "NetworkError: process 1 lost the connection to the others" in sentence(error, rank=1)


@pytest.mark.parametrize("words", ["CUDA error: illegal access", "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"])
def test_a_failing_gpu_is_a_sentence(words: str) -> None:
    assert "DeviceError: the GPU failed" in sentence(RuntimeError(words))


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes differ"), KeyError("x"), DataError("bad"), OSError(28, "full")]
)
def test_everything_else_passes(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, device_faults(batch=lambda: "", rank=0):
        raise error
    assert caught.value is error
    assert not isinstance(device_error(error, rank=0), DeviceError | NetworkError)


def test_a_batch_in_words() -> None:
    assert describe_batch(32_768, 8, 512) == "batch 4,096 of the 32,768, memory.chunk 512"
    assert describe_batch(256, 1, None) == "batch 256, memory.chunk is null: all at once"
