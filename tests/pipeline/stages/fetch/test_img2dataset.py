"""img2dataset as the engine: the names of its errors, and the tables it leaves where it is installed."""

import http.server
import importlib.util
import io
import threading

import pytest
from PIL import Image
from support.pictures import picture

from openwit.pipeline.download.status import FetchStatus
from openwit.pipeline.images.process import ImageDrop, ProcessedImage
from openwit.pipeline.stages.fetch.engine import make_engine
from openwit.pipeline.stages.fetch.img2dataset import status_of_message
from openwit.pipeline.stages.fetch.settings import FetchSettings
from openwit.schemas.common.errors import OpenWITError

INSTALLED = importlib.util.find_spec("img2dataset") is not None


@pytest.mark.parametrize(
    ("message", "status", "http_status"),
    [
        ("HTTP Error 404: Not Found", FetchStatus.HTTP_NOT_FOUND, 404),
        ("HTTP Error 503: Service Unavailable", FetchStatus.HTTP_SERVER_ERROR, 503),
        (
            "HTTP Error 302: The HTTP server returned a redirect error that would lead to an infinite loop.\nThe",
            FetchStatus.TOO_MANY_REDIRECTS,
            302,
        ),
        ("<urlopen error [Errno -2] Name or service not known>", FetchStatus.DNS_NOT_FOUND, None),
        ("<urlopen error [Errno -3] Temporary failure in name resolution>", FetchStatus.DNS_FAILED, None),
        ("<urlopen error [Errno 111] Connection refused>", FetchStatus.CONNECT_FAILED, None),
        ("<urlopen error timed out>", FetchStatus.CONNECT_TIMEOUT, None),
        ("The read operation timed out", FetchStatus.TIMEOUT, None),
        ("IncompleteRead(10 bytes read, 90 more expected)", FetchStatus.CONNECTION_LOST, None),
        ("Use of image disallowed by X-Robots-Tag directive", FetchStatus.OPTED_OUT, None),
        ("something new", FetchStatus.TRANSFER_FAILED, None),
    ],
)
def test_its_messages_have_classes(message, status, http_status):
    assert status_of_message(message) == (status, http_status)


@pytest.mark.skipif(INSTALLED, reason="img2dataset is installed")
def test_without_it_the_user_is_told():
    with pytest.raises(OpenWITError, match="pip install 'openwit\\[img2dataset\\]'"):
        make_engine(FetchSettings(engine="img2dataset"))


class Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        kind = self.path[1:]
        status = int(kind) if kind.isdigit() else 200
        self.send_response(status)
        if kind == "optout":
            self.send_header("X-Robots-Tag", "noai")
        self.end_headers()
        if status == 200:
            self.wfile.write(b"" if kind == "empty" else picture(1, (320, 200)))

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages) as running:
        running.asked = []
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield running
        running.shutdown()


@pytest.mark.skipif(not INSTALLED, reason="img2dataset is not installed")
def test_its_downloads_are_ours(server, tmp_path):
    (tmp_path / "b.txt").write_text("blocked.example\n")
    base = f"http://127.0.0.1:{server.server_port}/"
    download = {"retries": 0, "timeout_s": 8.0}
    engine = make_engine(
        FetchSettings(engine="img2dataset", blocklist=str(tmp_path / "b.txt"), download=download, image={"size": 64})
    )
    urls = [
        *(base + name for name in ("a", "404", "503", "optout", "empty")),
        "ftp://x.org/",
        "http://blocked.example",
    ]
    found = {download.url: download for download in engine.download(urls)}
    assert {url.removeprefix(base): download.status for url, download in found.items()} == {
        "a": FetchStatus.SUCCESS,
        "404": FetchStatus.HTTP_NOT_FOUND,
        "503": FetchStatus.HTTP_SERVER_ERROR,
        "optout": FetchStatus.OPTED_OUT,
        "empty": FetchStatus.EMPTY_BODY,
        "ftp://x.org/": FetchStatus.UNSUPPORTED_SCHEME,
        "http://blocked.example": FetchStatus.BLOCKED_DOMAIN,
    }
    image = engine.process(found[base + "a"].body)
    assert isinstance(image, ProcessedImage)
    assert found[base + "a"].seconds > 0
    assert (image.width, image.height) == Image.open(io.BytesIO(image.data)).size == (102, 64)
    assert (image.original_width, image.original_height, image.original_format) == (320, 200, "JPEG")
    small = engine.process(picture(1, (20, 20)))
    assert isinstance(small, ImageDrop)
    assert small.reason == "too_small"
    broken = engine.process(picture(1)[:60])
    assert isinstance(broken, ImageDrop)
    assert broken.reason == "decode_error"
