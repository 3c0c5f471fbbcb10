"""HTTP/2 where a server offers it: several requests share a connection."""

import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pycurl
import pytest

from openwit.pipeline.download.downloader import Downloader, DownloadSettings, FetchStatus

DATA, HEADERS, RST, SETTINGS, PING, WINDOW = 0, 1, 3, 4, 6, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
BODY = b"\xff\xd8\xff" + bytes(2000)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame (RFC 9113, section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


class Http2Server:
    """Answers every request of every connection with status 200 and the same body.

    Attributes:
        connections: how many there were.
        streams: requests that came.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.settimeout(0.1)
        self.port = self.socket.getsockname()[1]
        self.connections = self.streams = 0
        self.protocols: list[str | None] = []
        self.stop = threading.Event()

    def serve(self) -> None:
        while not self.stop.is_set():
            try:
                raw, _ = self.socket.accept()
            except TimeoutError:
                continue
            threading.Thread(target=self._talk, args=(raw,), daemon=True).start()

    def _talk(self, raw: socket.socket) -> None:
        try:
            with self.context.wrap_socket(raw, server_side=True) as connection, connection.makefile("rb") as read:
                self.connections += 1
                self.protocols.append(connection.selected_alpn_protocol())
                assert read.read(len(PREFACE)) == PREFACE
                connection.sendall(frame(SETTINGS, 0, 0))
                while head := read.read(9):
                    payload = read.read(int.from_bytes(head[:3], "big"))
                    self._answer(connection, head[3], head[4], int.from_bytes(head[5:9], "big"), payload)
        except OSError:
            pass

    def _answer(self, connection: ssl.SSLSocket, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            connection.sendall(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            connection.sendall(frame(PING, ACK, 0, payload))
        elif kind == HEADERS:
            self.streams += 1
            # 0x88 is `:status: 200` of HPACK's static table.
            answer = frame(HEADERS, END_HEADERS, stream, b"\x88") + frame(DATA, END_STREAM, stream, BODY)
            connection.sendall(answer)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Http2Server, Path]]:
    if "nghttp2" not in pycurl.version:
        pytest.skip("this libcurl speaks no HTTP/2")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=a.localhost"]
    command += ["-addext", "subjectAltName=DNS:a.localhost", "-keyout", str(key), "-out", str(certificate)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no openssl command to make a certificate with: {error}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2", "http/1.1"])
    running = Http2Server(context)
    thread = threading.Thread(target=running.serve, daemon=True)
    thread.start()
    yield running, certificate
    running.stop.set()
    thread.join()
    running.socket.close()


def test_many_requests_share_one_connection(server: tuple[Http2Server, Path]) -> None:
    running, certificate = server
    urls = [f"https://a.localhost:{running.port}/{n}.jpg" for n in range(40)]
    chosen = DownloadSettings(
        allow_networks=("127.0.0.0/8",), ca_file=str(certificate), robots=False, timeout_s=10, per_host=8
    )
    with Downloader(chosen) as downloader:
        found = {download.url: download for download in downloader.download([urls[0]])}
        found.update((download.url, download) for download in downloader.download(urls[1:]))
    assert {found[url].status for url in urls} == {FetchStatus.SUCCESS}
    assert all(found[url].body == BODY for url in urls)
    assert running.streams == 40
    assert set(running.protocols) == {"h2"}
    assert running.connections == 1
