"""Define the download log of each URL. It holds times, so the manifest has no checksums of it."""

import pyarrow as pa

from openwit.pipeline.download.target import BadUrlError, parse_target
from openwit.schemas.table import Column, TableSchema

LOG = "log"

FETCH_LOG = TableSchema(
    "fetch_log",
    1,
    "One row per image URL that was downloaded or refused, ascending; images from tables are not in it.",
    (
        Column("url", pa.string(), "image URL"),
        Column("host", pa.string(), "its host, lower-case and IDNA; empty if the URL is not valid"),
        Column("status", pa.string(), "success, or the reason for which the image was dropped"),
        Column("http_status", pa.int32(), "of the last response", nullable=True),
        Column("bytes", pa.int64(), "of the body, 0 if none was kept"),
        Column("milliseconds", pa.float32(), "of all its transfers, without the time in queues"),
        Column("attempts", pa.int32(), "0 if nothing was sent"),
    ),
)


def host_name(url: str) -> str:
    """Return the host of a URL as in `Target`; "" for an invalid URL."""
    try:
        return parse_target(url).host
    except BadUrlError:
        return ""
