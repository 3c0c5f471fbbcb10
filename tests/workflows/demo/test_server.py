import asyncio
import gzip
import http.client
import io
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from openwit.schemas.common.errors import OpenWITError
from openwit.workflows.demo.behaviours import Behaviours
from openwit.workflows.demo.faults import BOMB_SIDE, FAULT_SHARES
from openwit.workflows.demo.serving import serving

ROOT = Path(__file__).resolve().parents[3]
STATUS = {"gone": 410, "error": 500, "missing": 404, "moved": 301}


def test_behaviours_answer_as_declared(web, get):
    hosts = Behaviours.model_validate_json((web / "behaviours.json").read_bytes()).hosts
    for host, rules in hosts.items():
        for path, behaviour in rules.paths.items():
            if behaviour.kind in ("cut", "drip"):
                continue
            answer = get(host, path)
            if behaviour.kind in ("status", "redirect"):
                assert answer.status == behaviour.status
            if behaviour.kind == "redirect":
                assert answer.headers["Location"].isascii()
                assert "@PORT@" not in answer.headers["Location"]
            if behaviour.kind in ("type", "markup"):
                assert (answer.status, answer.headers["Content-Type"]) == (200, behaviour.content_type)
            if behaviour.kind == "type":
                Image.open(io.BytesIO(answer.body)).load()
            if behaviour.kind == "markup":
                assert answer.body.startswith(b"<!DOCTYPE html>")


@pytest.fixture(scope="module")
def faulty(web, tmp_path_factory):
    """A web with each behaviour once, around one picture."""
    folder = tmp_path_factory.mktemp("faulty") / "web"
    (folder / "clipart").mkdir(parents=True)
    shutil.copy(web / "web.json", folder)
    shutil.copy(web / "oddments" / "banner.png", folder / "clipart" / "a.png")
    paths = {
        "/a.png": {"kind": "cut"},
        "/gone.png": {"kind": "status", "status": 410},
        "/drip.jpg": {"kind": "drip", "content_type": "image/jpeg", "seconds": 0.2},
        "/away.png": {"kind": "redirect", "status": 302, "location": "http://stickers.localhost:@PORT@/í.png"},
    }
    (folder / "behaviours.json").write_text(json.dumps({"hosts": {"clipart": {"paths": paths}}}))
    with serving(folder, 0) as bound:
        yield folder, bound


def ask(port, path, host="clipart"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path, headers={"Host": f"{host}.localhost:{port}"})
    return connection.getresponse()


def test_a_cut_answer_promises_more_than_it_sends(faulty):
    folder, port = faulty
    size = (folder / "clipart" / "a.png").stat().st_size
    answer = ask(port, "/a.png")
    assert (answer.status, int(answer.headers["Content-Length"])) == (200, size)
    with pytest.raises(http.client.IncompleteRead) as error:
        answer.read()
    assert error.value.partial == (folder / "clipart" / "a.png").read_bytes()[: size // 2]


def test_a_drip_ends_by_itself(faulty):
    answer = ask(faulty[1], "/drip.jpg")
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.read().startswith(b"\xff\xd8\xff")


def test_a_redirect_carries_the_port_and_ascii(faulty):
    assert ask(faulty[1], "/away.png").headers["Location"] == f"http://stickers.localhost:{faulty[1]}/%C3%AD.png"


def test_no_declared_drip_is_longer_than_a_minute(web):
    hosts = Behaviours.model_validate_json((web / "behaviours.json").read_bytes()).hosts
    drips = [b for rules in hosts.values() for b in rules.paths.values() if b.kind == "drip"]
    assert drips
    assert max(drip.seconds for drip in drips) <= 60


def test_pictures_with_faults_answer_so(declared, get):
    for picture in declared:
        host, _, path = picture["address"].removeprefix("http://").partition("/")
        name = host.partition(".")[0]
        if picture["fault"] == "refused":
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", 1), timeout=5)
        elif picture["fault"] in STATUS:
            assert get(name, f"/{path}").status == STATUS[picture["fault"]], picture
    assert {fault for fault, _ in FAULT_SHARES} >= {picture["fault"] for picture in declared} - {"none"}


def test_virtual_hosts_and_charsets(get):
    assert b"The Clip Art Drawer" in get("clipart", "/").body
    assert get("kartinki", "/").headers["Content-Type"] == "text/html; charset=windows-1251"
    assert get("irasuto", "/").headers["Content-Type"] == "text/html"
    assert get("nowhere", "/").status == 404


def test_the_port_is_put_into_pages(get, port):
    page = get("nightsky", "/").body
    assert f"//cdn.localhost:{port}/night/".encode() in page
    assert b"@PORT@" not in page


def test_headers_of_hosts(get):
    assert get("noai", "/").headers["X-Robots-Tag"] == "noai"
    assert get("noai", "/img/none.png").headers["X-Robots-Tag"] == "noai"
    assert get("clipart", "/").headers["X-Robots-Tag"] is None


def test_robots(get):
    assert b"Disallow: /\n" in get("private", "/robots.txt").body
    assert get("flaky", "/robots.txt").status == 500
    assert get("stickers", "/robots.txt").status == 404


def test_compressed_pages(get):
    answer = get("shop", "/", **{"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(answer.body) == get("shop", "/").body


def test_non_ascii_paths(web, get):
    file = next((web / "dibujos" / "imágenes").iterdir())
    assert get("dibujos", f"/im%C3%A1genes/{file.name}").body == file.read_bytes()


@pytest.mark.parametrize(
    "path", ["/../web.json", "/%2e%2e/web.json", "/..%2fbehaviours.json", "/%00", "/img", "//etc/passwd"]
)
def test_nothing_outside_the_site_is_served(get, path):
    assert get("clipart", path).status in (400, 404)


def test_the_bomb_is_small_to_send_and_large_to_unpack(get):
    answer = get("oddments", "/bomb.png")
    assert len(answer.body) < 200_000
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(answer.body))
    assert int.from_bytes(answer.body[16:20], "big") == BOMB_SIDE


def test_hundreds_of_connections_at_once(port):
    async def one():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await everyone.wait()
        writer.write(f"GET / HTTP/1.1\r\nHost: retro.localhost:{port}\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return answer.partition(b"\r\n")[0]

    async def all_at_once():
        tasks = [asyncio.create_task(one()) for _ in range(400)]
        await asyncio.sleep(0)
        everyone.set()
        return await asyncio.gather(*tasks)

    everyone = asyncio.Event()
    assert set(asyncio.run(all_at_once())) == {b"HTTP/1.1 200 OK"}


def test_a_taken_port_is_one_sentence(web, port):
    result = subprocess.run(
        [sys.executable, "-m", "openwit.workflows.demo", "serve", "--web", str(web), "--port", str(port)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 2
    assert result.stderr == f"demo: port {port} is in use; stop what listens there or choose another --port\n"
    with pytest.raises(OpenWITError, match=f"port {port} is in use"), serving(web, port):
        pass


def test_the_server_ends_with_the_block(web):
    with serving(web, 0) as port:
        assert ask(port, "/").status == 200
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
