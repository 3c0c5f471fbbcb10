"""Send one request and read its response, with an easy handle that is set up once and reused for many URLs."""

import re
import socket
from dataclasses import dataclass
from typing import Any

import pycurl

from openwit.pipeline.common.codings import (
    ACCEPTED,
    BadCodingError,
    Decoded,
    DecodedTooLargeError,
    codings_of,
    decode,
    is_coded,
)
from openwit.pipeline.download.address import AddressPolicy
from openwit.pipeline.download.opt_out import TDM_RESERVATION, X_ROBOTS_TAG, opt_out
from openwit.pipeline.download.status import FetchStatus, status_of_curl, status_of_http
from openwit.pipeline.download.target import Target
from openwit.schemas.images.sniff import sniff_format

# An unwanted body of up to this size is read to its end, because aborting costs the connection.
_UNWANTED_BODY_BYTES = 64 * 1024
# A body that may be truncated is given up once it has unpacked to this multiple of its limit.
_ROBOTS_FACTOR = 8
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Header lines of one answer, interim answers (1xx) included. libcurl has limits too, but calls them lost connections.
_MAX_HEAD_BYTES = 256 * 1024
_MAX_HEAD_LINES = 2_000
# Fields that decide whether the body is kept. Most responses have none of them.
_DECIDING = (X_ROBOTS_TAG, TDM_RESERVATION, "content-encoding")
_DECIDING_NAMES = tuple(name.encode() for name in _DECIDING)
_DECIDING_FIELDS = re.compile(rf"^({'|'.join(_DECIDING)})[ \t]*:[ \t]*(.*?)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_LOCATION = re.compile(rb"^location[ \t]*:[ \t]*(.*?)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
# Prefer JPEG where the server offers a choice: the only format that can be decoded at a lower resolution.
_ACCEPT = "image/jpeg,image/png;q=0.9,image/webp;q=0.8,image/*;q=0.7,*/*;q=0.5"


@dataclass(frozen=True, slots=True)
class TransferOptions:
    """The options shared by all transfers of a downloader."""

    user_agent: str
    agent_token: str
    connect_timeout_s: float
    reuse_connections: bool
    opt_outs: bool
    ca_file: str


@dataclass(slots=True)
class Answer:
    """The result of one request. `location` is set for redirects, whose status is SUCCESS."""

    status: FetchStatus
    http_status: int | None = None
    body: bytes = b""
    location: bytes | None = None
    content_type: str | None = None
    retry_after_s: float | None = None
    detail: str = ""


class Transfer:
    """A reusable request. Call `begin`, add `handle` to the multi interface, then call `answer`.

    Attributes:
        handle: the easy handle.
        received: bytes of the body so far, as sent.
        requests: requests sent; libcurl repeats one on a connection that turns out to be dead.
    """

    def __init__(self, options: TransferOptions, policy: AddressPolicy) -> None:
        self._options = options
        self._policy = policy
        self.handle = self._make_handle()
        self._reset(0, False)

    def begin(
        self, target: Target, addresses: tuple[str, ...], *, max_bytes: int, truncate: bool = False, requests: int = 1
    ) -> None:
        """Prepare the request of a target.

        Args:
            addresses: of its host; empty for numeric hosts and localhost, which need no lookup.
            max_bytes: a longer body ends as TOO_LARGE, or is truncated if `truncate` is set.
            requests: how often the server may be asked, because libcurl repeats a request on a fresh connection when
                the server closed a kept one without an answer.
        """
        if (max_bytes, truncate) != (self._max_bytes, self._truncate):
            # This limits the announced Content-Length; `_on_body` limits what is sent.
            self.handle.setopt(pycurl.MAXFILESIZE_LARGE, 0 if truncate else max_bytes)
        self._reset(max_bytes, truncate)
        self._most_requests = requests
        self.handle.setopt(pycurl.URL, target.url)
        if addresses:
            # The plus sign lets the entry expire like any other entry of libcurl's DNS cache.
            listed = ",".join(f"[{a}]" if ":" in a else a for a in addresses)
            self.handle.setopt(pycurl.RESOLVE, [f"+{target.host}:{target.port}:{listed}"])

    def connected(self) -> bool:
        """Return whether the request was sent."""
        return bool(self.handle.getinfo(pycurl.PRETRANSFER_TIME))

    def latency_s(self) -> float:
        """Return the seconds from the request to the first byte of the answer; call it before `begin` is called."""
        first_byte_s, request_s = map(self.handle.getinfo, (pycurl.STARTTRANSFER_TIME, pycurl.PRETRANSFER_TIME))
        return max(0.0, float(first_byte_s - request_s))

    def answer(self, code: int, message: str) -> Answer:
        """Return the result of the transfer; `code` and `message` are libcurl's."""
        http_status = self.handle.getinfo(pycurl.RESPONSE_CODE) or None
        answer = Answer(FetchStatus.SUCCESS, http_status, detail=self._detail)
        if http_status is not None:
            answer.content_type = self.handle.getinfo(pycurl.CONTENT_TYPE)
        if self._verdict is not None:
            answer.status = self._verdict
        elif code and not (code == pycurl.E_WRITE_ERROR and self._discarded):
            self._explain_failure(answer, code, message)
        elif http_status in _REDIRECTS:
            answer.location = self._location()
            if answer.location is None:
                answer.status, answer.detail = FetchStatus.BAD_REDIRECT, "no Location"
        else:
            self._read_answer(answer)
        self._release()
        return answer

    def _read_answer(self, answer: Answer) -> None:
        answer.status = status_of_http(answer.http_status or 0)
        if answer.status is not FetchStatus.SUCCESS:
            answer.retry_after_s = float(self.handle.getinfo(pycurl.RETRY_AFTER)) or None
            return
        answer.body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        if self._codings:
            self._decode(answer, self._codings[0])
        if answer.status is FetchStatus.SUCCESS and not answer.body and not self._truncate:
            answer.status = FetchStatus.EMPTY_BODY

    def _decode(self, answer: Answer, coding: str) -> None:
        """Undo the coding of a body; an image that only claims one is left as it is."""
        body = answer.body
        if not body or (not is_coded(body, coding) and (self._truncate or sniff_format(body) is not None)):
            return
        try:
            decoded = decode(body, coding, self._max_bytes * (_ROBOTS_FACTOR if self._truncate else 1))
        except DecodedTooLargeError as error:
            answer.status, answer.body, answer.detail = FetchStatus.TOO_LARGE, b"", str(error)
            return
        except BadCodingError as error:
            decoded = Decoded(b"", False)
            answer.detail = str(error)
        answer.body = decoded.body[: self._max_bytes + 1]
        if self._truncate:
            return
        if not decoded.complete and sniff_format(body) is not None:
            answer.body, answer.detail = body, ""
        elif not decoded.complete:
            answer.status, answer.body = FetchStatus.BAD_ENCODING, b""
            answer.detail = answer.detail or f"the {coding} data ends early"

    def close(self) -> None:
        """Free the handle."""
        self._release()
        self.handle.close()

    def _release(self) -> None:
        self._chunks.clear()
        while self._sockets:
            self._sockets.pop().close()

    def _reset(self, max_bytes: int, truncate: bool) -> None:
        self._most_requests = 1
        self._max_bytes: int = max_bytes
        self._truncate: bool = truncate
        self._lines.clear()
        self._chunks: list[bytes] = []
        self.received = 0
        self._keep = True
        self._discarded = False
        self._verdict: FetchStatus | None = None
        self._detail = ""
        self._blocked = ""
        self._tried = False
        self._codings: list[str] = []
        self._head_bytes = 0
        self.requests = 0

    def _make_handle(self) -> Any:
        self._lines: list[bytes] = []
        self._sockets: list[socket.socket] = []  # libcurl works on duplicates of these
        options = self._options
        handle = pycurl.Curl()
        handle.setopt(pycurl.USERAGENT, options.user_agent)
        # Decoded here, not by libcurl: to it every word that is no coding, such as `utf-8`, is an error.
        handle.setopt(pycurl.HTTPHEADER, [f"Accept: {_ACCEPT}", f"Accept-Encoding: {ACCEPTED}"])
        handle.setopt(pycurl.HTTP_CONTENT_DECODING, 0)
        handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS)
        handle.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        # Each hop is a separate request: its host has a queue, limits, addresses and robots rules too.
        handle.setopt(pycurl.FOLLOWLOCATION, 0)
        # With a proxy from the environment, address checks would check only the proxy.
        handle.setopt(pycurl.PROXY, "")
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(pycurl.CONNECTTIMEOUT_MS, max(1, round(options.connect_timeout_s * 1000)))
        handle.setopt(pycurl.BUFFERSIZE, 128 * 1024)
        handle.setopt(pycurl.CAINFO, options.ca_file)
        if not options.reuse_connections:
            handle.setopt(pycurl.FORBID_REUSE, 1)
        handle.setopt(pycurl.OPENSOCKETFUNCTION, self._on_open_socket)
        handle.setopt(pycurl.HEADERFUNCTION, self._on_header)
        handle.setopt(pycurl.PREREQFUNCTION, self._on_request)
        handle.setopt(pycurl.WRITEFUNCTION, self._on_body)
        return handle

    def _on_open_socket(self, _purpose: int, address: tuple[int, int, int, Any]) -> Any:
        family, kind, protocol, where = address
        refusal = self._policy.refusal(where[0]) if isinstance(where, tuple) else "not an internet address"
        if refusal is not None:
            self._blocked = refusal
            return pycurl.SOCKET_BAD
        try:
            opened = socket.socket(family, kind, protocol)
        except OSError as error:
            self._detail = f"no socket: {error.strerror}"
            return pycurl.SOCKET_BAD
        self._tried = True
        self._sockets.append(opened)
        return opened

    def _on_request(self, *_: object) -> int:
        if self.requests >= self._most_requests:
            self._verdict, self._detail = FetchStatus.CONNECTION_LOST, "closed without an answer"
            return int(pycurl.PREREQFUNC_ABORT)
        self.requests += 1
        return int(pycurl.PREREQFUNC_OK)

    def _on_header(self, line: bytes) -> int | None:
        self._lines.append(line)
        self._head_bytes += len(line)
        if self._head_bytes > _MAX_HEAD_BYTES or len(self._lines) > _MAX_HEAD_LINES:
            self._refuse(FetchStatus.BAD_RESPONSE, "headers without end")
            return 0
        return None

    def _on_body(self, chunk: bytes) -> int | None:
        if not self.received:
            self._judge_head()
        self.received += len(chunk)
        if self._keep and self.received <= self._max_bytes:
            self._chunks.append(chunk)
            return None
        if self._verdict is not None:
            return 0
        if self._keep:
            return self._on_too_much(chunk)
        self._discarded = self.received > _UNWANTED_BODY_BYTES
        return 0 if self._discarded else None

    def _on_too_much(self, chunk: bytes) -> int:
        if self._truncate:
            # One byte more than the limit, so that the reader knows that the file is longer.
            self._chunks.append(chunk[: self._max_bytes + 1 - (self.received - len(chunk))])
            self._discarded = True
            return 0
        self._refuse(FetchStatus.TOO_LARGE, f"more than {self._max_bytes} bytes")
        return 0

    def _refuse(self, verdict: FetchStatus, detail: str) -> None:
        self._verdict, self._detail, self._keep = verdict, detail, False
        self._chunks.clear()

    def _head(self) -> bytes:
        """Return the last block of header lines; interim responses (1xx) come before it."""
        starts = [number for number, line in enumerate(self._lines) if line.startswith(b"HTTP/")]
        return b"".join(self._lines[starts[-1] :] if starts else self._lines)

    def _location(self) -> bytes | None:
        match = _LOCATION.search(self._head())
        return match.group(1) if match else None

    def _judge_head(self) -> None:
        """Decide before the first byte of the body whether it is kept."""
        # "HTTP/1.1 200 OK" or "HTTP/2 200": only 2xx has the resource in its body.
        status = self._lines[0].partition(b" ")[2]
        head = b"".join(self._lines)
        if status.startswith(b"1"):
            head = self._head()
            status = head.partition(b" ")[2]
        if not status.startswith(b"2"):
            self._keep = False
        else:
            lowered = head.lower()
            if any(name in lowered for name in _DECIDING_NAMES):
                self._judge_fields(head.decode("latin-1"))

    def _judge_fields(self, head: str) -> None:
        fields = [(name.lower(), value) for name, value in _DECIDING_FIELDS.findall(head)]
        is_image = not self._truncate
        found = opt_out(fields, self._options.agent_token) if self._options.opt_outs and is_image else None
        if found is not None:
            self._refuse(FetchStatus.OPTED_OUT, found)
            return
        declared = (value for name, value in fields if name == "content-encoding")
        self._codings = [coding for value in declared for coding in codings_of(value)]
        if len(self._codings) > 1:
            # The only use of repeated compression on the web is a decompression bomb.
            self._refuse(FetchStatus.BAD_ENCODING, "more than one content coding")

    def _explain_failure(self, answer: Answer, code: int, message: str) -> None:
        http_status = answer.http_status or 0
        if code == pycurl.E_FILESIZE_EXCEEDED and http_status >= 300:
            answer.status, answer.detail = status_of_http(http_status), ""  # a long error page is still an error page
            return
        answer.status = status_of_curl(code)
        answer.detail = self._detail or message
        if code == pycurl.E_COULDNT_CONNECT and self._blocked and not self._tried:
            answer.status, answer.detail = FetchStatus.BLOCKED_ADDRESS, self._blocked
