import json
from typing import Any

import pytest
import torch
from support import batch_of_thirteen as tiny
from support import option_products as products
from support.nursery import Nursery

from openwit.schemas.common.errors import OpenWITError
from openwit.training.engine.distributed import ProcessInfo, process_from_environment

WORKER = tiny.__file__

# Uneven parts, an empty one, and chunks that do not divide.
CASES = [
    {"objective": objective, "chunk": chunk, "strategy": strategy, "bounds": bounds}
    for objective, chunk, strategy, bounds in [
        ("contrastive", None, "replicate", [0, 6, 13]),
        ("contrastive", 4, "replicate", [0, 6, 13]),
        ("same_text", None, "replicate", [0, 2, 13]),
        ("sigmoid", None, "replicate", [0, 6, 13]),
        ("sigmoid", 3, "replicate", [0, 11, 13]),
        ("contrastive", None, "replicate", [0, 13, 13]),
        ("contrastive", 5, "replicate", [0, 0, 13]),
        ("contrastive", None, "fsdp", [0, 6, 13]),
        ("contrastive", 4, "fsdp", [0, 4, 13]),
        ("sigmoid", 4, "fsdp", [0, 13, 13]),
        ("contrastive_captioning", None, "replicate", [0, 2, 13]),
        ("contrastive_captioning", 4, "fsdp", [0, 5, 13]),
        ("contrastive_captioning", 5, "fsdp", [0, 13, 13]),
    ]
]


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery) -> list[dict[str, torch.Tensor]]:
    """The gradients of all cases, by two processes."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "cases.json").write_text(json.dumps([*CASES, *products.FAST]))
    ended = nursery.programs([WORKER, str(folder / "cases.json"), str(folder / "out.pt")], seconds=250)
    assert [code for code, _, _ in ended] == [0, 0], ended
    return torch.load(folder / "out.pt")


@pytest.mark.parametrize("number", range(len(CASES)), ids=[" ".join(map(str, case.values())) for case in CASES])
def test_two_processes_give_the_gradients_of_one(of_two: Any, number: int) -> None:
    one = tiny.gradients({"objective": CASES[number]["objective"]})
    two = of_two[number]
    assert one.keys() == two.keys()
    assert tiny.relative_error(two, one) < 1e-5
    torch.testing.assert_close(two["norm"], one["norm"], rtol=1e-5, atol=0)


@pytest.mark.parametrize("number", range(len(products.FAST)), ids=map(products.name_of, products.FAST))
def test_the_values_of_a_gpu_start_and_resume(of_two: Any, number: int) -> None:
    products.check(products.FAST[number], of_two[len(CASES) + number])


def test_one_process_needs_no_launcher() -> None:
    assert process_from_environment({}) is None
    assert process_from_environment({"WORLD_SIZE": "1", "RANK": "0"}) is None
    # A shell inside an allocation of many tasks is one process.
    assert process_from_environment({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}) is None


def test_places_come_from_torchrun_or_slurm() -> None:
    torchrun = {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "7"}
    assert process_from_environment(torchrun) == ProcessInfo(3, 4, 1, "a", 7)
    slurm = {
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_PROCID": "1",
        "SLURM_LOCALID": "0",
        "SLURM_STEP_NODELIST": "node7",
        "SLURM_JOB_ID": "12345",
    }
    assert process_from_environment(slurm) == ProcessInfo(1, 2, 0, "node7", 29_845)
    with pytest.raises(OpenWITError, match="torchrun or srun"):
        process_from_environment({"WORLD_SIZE": "2", "RANK": "0"})
