"""Addresses of Ray and what it prints of losses, without Ray; tests/engines runs builds on it."""

import logging
import socket

import pytest

from openwit.pipeline.execution import ray_pool
from openwit.schemas.common.errors import NetworkError, RecipeError


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def closed():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Set what this machine knows of clusters: the address in Ray's file, and heads that run here."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def know(written=None, heads=()):
        monkeypatch.setattr(ray_pool, "_heads_here", lambda: list(heads))
        if written is not None:
            (tmp_path / "ray").mkdir()
            (tmp_path / "ray" / "ray_current_cluster").write_text(written)

    return know


def test_a_head_that_is_gone_is_one_sentence(machine, closed):
    machine(closed)
    with pytest.raises(NetworkError) as refused:
        ray_pool.auto_address()
    assert str(refused.value) == (
        f"--cluster auto: no Ray cluster was found (the last one known, {closed}, does not answer): "
        "start one with ray start --head, or give HOST:PORT"
    )


def test_a_machine_of_no_cluster(machine):
    machine()
    with pytest.raises(NetworkError, match="this machine belongs to none"):
        ray_pool.auto_address()


def test_a_head_that_answers_is_taken(machine, closed, listening):
    machine(closed, [listening])
    assert ray_pool.auto_address() == listening


def test_of_several_heads_the_written_one_is_taken(machine, closed, listening):
    machine(listening, [closed, "127.0.0.1:1"])
    assert ray_pool.auto_address() == listening


def test_the_environment_names_the_cluster(machine, monkeypatch, closed):
    machine()
    monkeypatch.setenv("RAY_ADDRESS", closed)
    assert ray_pool.auto_address() == closed
    with pytest.raises(NetworkError, match=r"--cluster .* \(--cluster auto\): does not answer"):
        ray_pool._check_address(closed, said=" (--cluster auto)")
    with pytest.raises(RecipeError, match="must be auto, HOST:PORT or ray://HOST:PORT"):
        ray_pool._check_address("nowhere")


def test_losses_are_a_line_each(caplog, capsys):
    losses = ray_pool.Losses()
    dead = "The node with node id: 4b8a and address: 10.0.0.2 has been marked dead because the detector has missed"
    retried = "Task _serve failed. There are 5 retries remaining, so the task will be retried. Error: Task failed "
    with caplog.at_level(logging.WARNING):
        for text in (
            "Raylet is terminated. Last 20 lines of the Raylet logs:\n    [state-dump] a",
            dead,
            dead,
            retried + "because the node it was running on is dead or unavailable.",
            retried + "due to the worker dying unexpectedly.",
        ):
            losses.tell({"lines": [text], "pid": "raylet", "is_err": False}, ignore_prefix=False)
    assert caplog.messages == [
        "a node of the cluster was lost; its tasks are done again",
        "a worker of the cluster was lost; its task is done again",
    ]
    assert capsys.readouterr() == ("", "")
