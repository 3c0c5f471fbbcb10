"""Builds on a Ray cluster of two nodes whose only common folder is an S3 server."""

import threading
import time

import pytest
from support.ray_cluster import ray_cluster
from support.s3_server import BUCKET
from support.trees import dataset_tree

from openwit.pipeline.build import build
from openwit.pipeline.execution.runners import make_engine
from openwit.pipeline.execution.stage import Job
from openwit.schemas.common.errors import NetworkError, RecipeError, StorageError
from openwit.schemas.common.storage import as_path

pytestmark = pytest.mark.engines
pytest.importorskip("ray")


@pytest.fixture(scope="module")
def cluster(s3):
    with ray_cluster(s3) as made:
        yield made


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
