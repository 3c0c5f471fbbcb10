"""Count authors and licences of images, and list whom to attribute, in memory and files of limited size."""

import csv
import io
from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from openwit.pipeline.dataset.card_sums import ATTRIBUTION_HEADER
from openwit.pipeline.stages.card.histograms import top
from openwit.schemas.common.printable import printable

AUTHOR = "author"
"""The column of the inputs, if they were kept with one, that names who made an image."""
_MOST = 1_000_000
_LISTED = 10_000
_LONGEST = 500


class Authors:
    """Count images by author and licence, of the first text; pairs beyond a million are counted, not named."""

    def __init__(self) -> None:
        self.images = 0
        self.without_author = 0
        self.unnamed = 0
        self.known = False
        self._pairs: Counter[tuple[str, str]] = Counter()

    def add(self, table: pa.Table) -> None:
        """Count the rows of a table with `licenses`, and with AUTHOR if the dataset has it as text."""
        self.images += table.num_rows
        licences = [(each or [None])[0] or "" for each in table.column("licenses").to_pylist()]
        authors = [""] * table.num_rows
        if AUTHOR in table.column_names and pa.types.is_string(table.schema.field(AUTHOR).type):
            self.known = True
            authors = pc.utf8_trim_whitespace(pc.fill_null(table.column(AUTHOR), "")).to_pylist()
        for pair, n in Counter(zip(authors, licences, strict=True)).items():
            self.without_author += 0 if pair[0] else n
            if not any(pair):
                continue
            if pair in self._pairs or len(self._pairs) < _MOST:
                self._pairs[pair] += n
            else:
                self.unnamed += n

    def facts(self) -> dict[str, Any]:
        """Return counts of authors, in images; nothing for a dataset that names none."""
        if not self.known:
            return {}
        named: Counter[str] = Counter()
        for (author, _), n in self._pairs.items():
            if author:
                named[author] += n
        return {
            "images": self.images,
            "none_stated": self.without_author,
            "n": len(named),
            "top": top(named),
            "listed": min(len(self._pairs), _LISTED),
            "pairs": len(self._pairs),
        }

    def listing(self) -> str:
        """Return a CSV of the pairs of author and licence with most images; empty if nothing is stated."""
        if not self._pairs:
            return ""
        text = io.StringIO()
        text.write(ATTRIBUTION_HEADER)
        writer = csv.writer(text, lineterminator="\n")
        ranked = sorted(self._pairs.items(), key=lambda item: (-item[1], item[0]))
        for (author, licence), n in ranked[:_LISTED]:
            writer.writerow((printable(author)[:_LONGEST], printable(licence)[:_LONGEST], n))
        return text.getvalue()
