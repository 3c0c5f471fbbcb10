"""Builds on a Ray cluster of two nodes whose only common folder is an S3 server."""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.s3_server import BUCKET
from support.trees import dataset_tree

from openwit.pipeline.build import build
from openwit.pipeline.execution.runners import make_engine
from openwit.pipeline.execution.stage import Job
from openwit.schemas.common.errors import NetworkError, OpenWITError, RecipeError, StorageError
from openwit.schemas.common.storage import as_path

pytestmark = pytest.mark.engines
pytest.importorskip("ray")

RAY = [sys.executable, "-m", "ray.scripts.scripts"]
NODE = ["--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats"]


class Cluster:
    """A head and nodes that come and go."""

    def __init__(self, environment):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        paths = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
        self.environment = {**os.environ, **environment, "PYTHONPATH": paths, "RAY_USAGE_STATS_ENABLED": "0"}
        self.nodes = []
        port = self.address.partition(":")[2]
        self.start("--head", f"--port={port}", "--include-dashboard=false", "--dashboard-agent-listen-port=0")

    def start(self, *arguments):
        """Start a node; it ends with its process."""
        command = [*RAY, "start", *(arguments or [f"--address={self.address}"]), *NODE, "--block"]
        node = subprocess.Popen(
            command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        self.nodes.append(node)
        return node

    def kill(self, node):
        """End a node as a power cut does."""
        os.killpg(node.pid, 9)
        node.wait()
        self.nodes.remove(node)

    def stop(self):
        for node in list(self.nodes):
            self.kill(node)


@pytest.fixture(scope="module")
def cluster(s3):
    made = Cluster(s3)
    made.start()
    deadline = time.monotonic() + 60
    while True:
        engine = make_engine("ray", "auto", cluster=made.address)
        try:
            engine.check()
            break
        except OpenWITError:
            engine.close()
            assert time.monotonic() < deadline
            time.sleep(1)
    yield made
    engine.close()
    made.stop()


def test_a_build_in_a_store_has_the_same_bytes(cluster, small):
    recipe, expected = small
    work = as_path(f"s3://{BUCKET}/same")
    engine = make_engine("ray", "auto", cluster=cluster.address)
    build(recipe, work, Job(engine))
    assert dataset_tree(work / "dataset") == expected
    assert not build(recipe, work, Job(engine)).executed


def test_a_killed_node_costs_time_and_nothing_else(cluster, small):
    recipe, expected = small
    node = cluster.start()
    work = as_path(f"s3://{BUCKET}/killed")
    killer = threading.Timer(4.0, cluster.kill, [node])
    killer.start()
    build(recipe, work, Job(make_engine("ray", "auto", cluster=cluster.address)))
    killer.join()
    assert dataset_tree(work / "dataset") == expected


def test_a_build_begun_here_goes_on_there(cluster, small):
    recipe, expected = small
    work = as_path(f"s3://{BUCKET}/moved")

    def stop(step):
        if step.name == "select":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(recipe, work, Job(make_engine("local", 2)), on_step=stop)
    done = build(recipe, work, Job(make_engine("ray", "auto", cluster=cluster.address)))
    assert [step.executed for step in done.steps[:3]] == [False] * 3
    assert dataset_tree(work / "dataset") == expected


def test_a_folder_that_workers_do_not_see_is_one_sentence(cluster, small, tmp_path, monkeypatch):
    from openwit.pipeline.execution import probe

    recipe, _ = small
    # The nodes of this test see all of this machine's disk: the probe says what others would read.
    monkeypatch.setattr(probe.uuid, "uuid4", lambda: type("Id", (), {"hex": "written by the driver"})())
    real = probe.atomic_write
    monkeypatch.setattr(probe, "atomic_write", lambda path, text: real(path, text + " of another machine"))
    with pytest.raises(StorageError, match=r"the worker on .* does not see .*: give a URL \(s3://"):
        build(recipe, tmp_path / "w", Job(make_engine("ray", "auto", cluster=cluster.address)))


@pytest.mark.parametrize(
    ("address", "kind", "message"),
    [
        ("127.0.0.1:1", NetworkError, "--cluster 127.0.0.1:1: does not answer"),
        ("nowhere", RecipeError, "--cluster nowhere: must be auto, HOST:PORT or ray://HOST:PORT"),
    ],
)
def test_a_wrong_address_is_one_sentence_at_once(address, kind, message):
    began = time.monotonic()
    with pytest.raises(kind, match=message):
        from openwit.pipeline.execution import ray_pool

        ray_pool._check_address(address)
    assert time.monotonic() - began < 10
