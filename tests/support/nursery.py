"""Starts processes of training that need not load torch, as one process has, of which they are copies."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SECONDS = 100.0

Ended = tuple[int, str, str]
"""Exit code, stdout and stderr."""


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@dataclass(frozen=True)
class Started:
    """Processes of one order, their output in files."""

    nursery: "Nursery"
    pids: list[int]
    files: list[dict[str, str]]

    def running(self) -> bool:
        """Whether all are."""
        return all(code is None for code in self.nursery.ask({"poll": self.pids}))

    def ended(self, seconds: float = SECONDS) -> list[Ended]:
        """Waits for all of them."""
        codes = self.nursery.ask({"wait": self.pids}, seconds)
        texts = [(Path(one["out"]).read_text(), Path(one["error"]).read_text()) for one in self.files]
        return [(code, *text) for code, text in zip(codes, texts, strict=True)]


@dataclass
class Nursery:
    """One process that has loaded torch, started when it is first needed; all that it starts ends with it."""

    folder: Path
    _runs: int = 0
    _process: "subprocess.Popen[str] | None" = field(default=None, repr=False)

    def close(self) -> None:
        """Ends whatever is left."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
            self._process = None

    def pair(self, path: Path, meanwhile: Callable[[list[int]], None] | None = None) -> list[Ended]:
        """Two processes of `wit-train fit` that find one another."""
        return self._pair({"arguments": ["fit", str(path)]}, SECONDS, meanwhile)

    def programs(self, arguments: list[str], seconds: float = SECONDS) -> list[Ended]:
        """Two processes of a program, a file and its arguments, that find one another."""
        return self._pair({"program": arguments[0], "arguments": arguments[1:]}, seconds, None)

    def start(self, arguments: list[str], program: Path | None = None, **variables: str) -> Started:
        """One process of `wit-train`, or of a program; returns while it runs."""
        return self._start([variables], {"program": program and str(program), "arguments": arguments})

    def torchrun(self, path: Path) -> Ended:
        """Two processes that torchrun's agent starts; all together."""
        files = self._files()
        children = self.ask({"launched": {"size": 2, **files}, "arguments": ["fit", str(path)]})
        return Started(self, children, [files]).ended()[0]

    def _pair(
        self, order: dict[str, Any], seconds: float, meanwhile: Callable[[list[int]], None] | None
    ) -> list[Ended]:
        port = free_port()
        places = [
            {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            for rank in range(2)
        ]
        started = self._start([{name: str(value) for name, value in place.items()} for place in places], order)
        if meanwhile is not None:
            meanwhile(started.pids)
        return started.ended(seconds)

    def _start(self, variables: list[Mapping[str, str]] | list[dict[str, str]], order: dict[str, Any]) -> Started:
        files = [self._files() for _ in variables]
        pairs = [{"variables": dict(v), **f} for v, f in zip(variables, files, strict=True)]
        return Started(self, self.ask({"pairs": pairs, **order}), files)

    def _files(self) -> dict[str, str]:
        self._runs += 1
        return {name: str(self.folder / f"{self._runs}.{name}") for name in ("out", "error")}

    def ask(self, order: dict[str, Any], seconds: float = SECONDS) -> list[int]:
        """The answer to an order; when it takes too long, all is killed, and the next order begins anew."""
        process = self._ready()
        assert process.stdin is not None
        assert process.stdout is not None
        limit = threading.Timer(seconds, os.killpg, (process.pid, signal.SIGKILL))
        limit.start()
        try:
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
            answer: list[int] = json.loads(process.stdout.readline())
            return answer
        finally:
            limit.cancel()

    def _ready(self) -> "subprocess.Popen[str]":
        if self._process is None or self._process.poll() is not None:
            path = f"{ROOT / 'src'}{os.pathsep}{ROOT / 'tests'}"
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).parent / "ready_processes.py")],
                env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                start_new_session=True,
            )
            assert self._process.stdout is not None
            assert self._process.stdout.readline() == "ready\n"
        return self._process
