"""A Ray cluster of this machine whose nodes come and go."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openwit.pipeline.execution.runners import make_engine
from openwit.schemas.common.errors import OpenWITError

RAY = [sys.executable, "-m", "ray.scripts.scripts"]
NODE = ["--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats"]


class Cluster:
    """A head and nodes that come and go."""

    def __init__(self, environment: dict[str, str]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        paths = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
        self.environment = {**os.environ, **environment, "PYTHONPATH": paths, "RAY_USAGE_STATS_ENABLED": "0"}
        self.nodes: list[subprocess.Popen[bytes]] = []
        port = self.address.partition(":")[2]
        self.start("--head", f"--port={port}", "--include-dashboard=false", "--dashboard-agent-listen-port=0")

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start a node; it ends with its process."""
        command = [*RAY, "start", *(arguments or [f"--address={self.address}"]), *NODE, "--block"]
        node = subprocess.Popen(
            command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        self.nodes.append(node)
        return node

    def kill(self, node: "subprocess.Popen[bytes]") -> None:
        """End a node as a power cut does."""
        os.killpg(node.pid, 9)
        node.wait()
        self.nodes.remove(node)

    def stop(self) -> None:
        for node in list(self.nodes):
            self.kill(node)


@contextmanager
def ray_cluster(environment: dict[str, str]) -> Iterator[Cluster]:
    """Run a cluster of two nodes, from when it answers."""
    made = Cluster(environment)
    try:
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
    finally:
        made.stop()
