import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.common.storage import remote
from openwit.schemas.common.storage.remote import local_copy


@pytest.fixture
def flaky_server():
    """Serves `data`, but breaks the first answers off in the middle; yields (base URL, list of requests)."""
    asked = []
    data = bytes(range(256)) * 400

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if self.path == "/gone.warc":
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            broken = self.path == "/dead.warc" or len(asked) <= 2
            self.wfile.write(data[: len(data) // 2] if broken else data)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked, data
    server.shutdown()


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch):
    monkeypatch.setattr(remote, "_LONGEST_WAIT_S", 0)


def test_a_local_file_is_itself(tmp_path):
    with local_copy(str(tmp_path / "x.warc")) as path:
        assert path == str(tmp_path / "x.warc")


def test_a_broken_connection_is_tried_again_and_the_copy_goes(flaky_server):
    base, asked, data = flaky_server
    with local_copy(f"{base}/a/x.warc.gz") as path:
        assert Path(path).name == "x.warc.gz"
        assert Path(path).read_bytes() == data
    assert not Path(path).exists()
    assert len(asked) == 3


def test_what_cannot_be_had_is_said(flaky_server):
    base, asked, _ = flaky_server
    with pytest.raises(OpenWITError, match=r"gone.warc does not exist"), local_copy(f"{base}/gone.warc"):
        pass
    assert len(asked) == 1
    with pytest.raises(OpenWITError, match=r"dead.warc cannot be fetched"), local_copy(f"{base}/dead.warc"):
        pass
    with pytest.raises(OpenWITError, match=r"cannot be fetched: Protocol not known"), local_copy("nosuch://x/y.warc"):
        pass


def test_any_filesystem():
    fsspec.filesystem("memory").pipe("/in/x.warc", b"abc")
    with local_copy("memory://in/x.warc") as path:
        assert Path(path).read_bytes() == b"abc"
