"""Rows made by hand for the tests of stages."""

from openwit.pipeline.stages.candidates.pair import pair_id


def candidate(url, text, **columns):
    """A candidates row."""
    row = {
        "pair_id": pair_id(url, text), "url": url, "text": text, "text_source": "alt", "image_source": "src",
        "language": None, "language_score": None, "split": "train", "page_url": None, "archive": "a.warc",
        "record_offset": 0, "fetch_date": None, "license": None, "has_bytes": False,
        "columns": None,
    }  # fmt: skip
    return {**row, **columns}
