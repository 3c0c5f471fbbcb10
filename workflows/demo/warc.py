"""Write WARC files like a crawler (ISO 28500): warcinfo, then a request and a response record for each fetch.

Dates and record ids are fixed, because the demo's inputs stay byte-identical: a crawl of the same web gives the same
files, so the build's resume and its checksums can be checked from end to end.
"""

import io
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from openwit.schemas.common.atomic import atomic_path

WARC_DATE = "2024-07-01T00:00:00Z"
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://openwit.example/demo-crawl")


@dataclass(frozen=True)
class Exchange:
    """One request and its response."""

    url: str
    request_headers: tuple[tuple[str, str], ...]
    status: int
    reason: str
    response_headers: tuple[tuple[str, str], ...]
    body: bytes  # as sent, so still compressed if Content-Encoding declares it


def write_warc(path: Path, exchanges: Sequence[Exchange], agent: str) -> None:
    """Write one file, with a gzip member per record, whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        writer = WARCWriter(file, gzip=True)
        writer.write_record(_warcinfo(writer, path.name, agent))
        for exchange in exchanges:
            _write(writer, exchange)


def _warcinfo(writer: WARCWriter, name: str, agent: str) -> object:
    fields = {
        "software": "openwit demo crawler",
        "http-header-user-agent": agent,
        "robots": "obey",
        "format": "WARC File Format 1.0",
        "conformsTo": "http://bibnum.bnf.fr/WARC/WARC_ISO_28500_version1_latestdraft.pdf",
    }
    text = "".join(f"{key}: {value}\r\n" for key, value in fields.items()).encode()
    headers = {"WARC-Filename": name, "WARC-Date": WARC_DATE, "WARC-Record-ID": _record_id("warcinfo", name)}
    return writer.create_warc_record(
        "", "warcinfo", payload=io.BytesIO(text), length=len(text), warc_headers_dict=headers,
        warc_content_type="application/warc-fields",
    )  # fmt: skip


def _write(writer: WARCWriter, exchange: Exchange) -> None:
    response_id = _record_id("response", exchange.url)
    response = writer.create_warc_record(
        exchange.url,
        "response",
        payload=io.BytesIO(exchange.body),
        length=len(exchange.body),
        http_headers=StatusAndHeaders(
            f"{exchange.status} {exchange.reason}", list(exchange.response_headers), "HTTP/1.1"
        ),
        warc_headers_dict={"WARC-Record-ID": response_id, "WARC-Date": WARC_DATE, "WARC-IP-Address": "127.0.0.1"},
    )
    path = "/" + exchange.url.partition("://")[2].partition("/")[2]
    request = writer.create_warc_record(
        exchange.url,
        "request",
        http_headers=StatusAndHeaders(f"GET {path} HTTP/1.1", list(exchange.request_headers), is_http_request=True),
        warc_headers_dict={
            "WARC-Record-ID": _record_id("request", exchange.url),
            "WARC-Date": WARC_DATE,
            "WARC-Concurrent-To": response_id,
        },
    )
    writer.write_record(request)
    writer.write_record(response)


def _record_id(kind: str, name: str) -> str:
    return f"<urn:uuid:{uuid.uuid5(_NAMESPACE, f'{kind} {name}')}>"
