"""One sample of a dataset: from a surviving image to the rows and members a shard holds."""

import json
from typing import Any

_LISTS = {
    "texts": "text",
    "query_ids": "query_ids",
    "drawn_by": "drawn_by",
    "priorities": "priority",
    "text_sources": "text_source",
    "languages": "language",
    "page_urls": "page_url",
    "archives": "archive",
    "record_offsets": "record_offset",
    "licenses": "license",
}
_SCALARS = ("url", "width", "height", "original_width", "original_height", "original_format", "sha256", "duplicates")


def sample_row(key: str, survivor: dict[str, Any]) -> dict[str, Any]:
    """A row of schemas.samples.SAMPLES from a row of schemas.images.SURVIVORS."""
    pairs = survivor["pairs"]
    row: dict[str, Any] = {"key": key, "caption": pairs[0]["text"], "status": "success", "error_message": None}
    row["pair_ids"] = [pair["pair_id"].hex() for pair in pairs]
    for column, member in _LISTS.items():
        row[column] = [pair[member] for pair in pairs]
    for column in _SCALARS:
        row[column] = survivor[column]
    row["phash"] = f"{survivor['phash']:016x}"
    return row


def sample_json(row: dict[str, Any]) -> bytes:
    """The `.json` member: the metadata row, keys sorted, non-ASCII as itself."""
    return json.dumps(row, ensure_ascii=False, sort_keys=True).encode()


def shard_stats(rows: int) -> dict[str, Any]:
    """img2dataset's per-shard statistics. Times are left out: the same build gives the same bytes."""
    return {
        "count": rows,
        "successes": rows,
        "failed_to_download": 0,
        "failed_to_resize": 0,
        "status_dict": {"success": rows},
    }
