"""Record a planned removal in the dataset until it is done, so that a killed removal can be completed."""

from collections import Counter
from typing import NamedTuple

import msgspec

from openwit.pipeline.dataset.store import DatasetStore
from openwit.schemas.common.errors import DataError
from openwit.schemas.manifest import DatasetManifest, FunnelStep, Removal

JOURNAL = ".removing.json"


class Gone(NamedTuple):
    """A sample to remove: its key, the kind of list entry that names it, its URL, and its number of texts."""

    key: str
    kind: str
    url: str
    pairs: int


class ShardPlan(msgspec.Struct):
    """The samples to remove from one shard, and the number of samples it held before."""

    before: int
    gone: list[Gone]


class Journal(msgspec.Struct):
    """A planned removal.

    Attributes:
        list_sha256, entries: of the list (see openwit.schemas.manifest.Removal).
        matched: line numbers of the list's entries that name something in the dataset.
        shards: by path of the tar.
        queries: number of removed pairs per query id.
        queries_sha256: of the query list with its counts, before the removal.
        funnel, removals: number of these entries in the manifest before the removal.
        card: settings of the dataset's card; None if it had no card.
    """

    list_sha256: str
    entries: int
    matched: list[int]
    shards: dict[str, ShardPlan]
    queries: dict[int, int]
    queries_sha256: str | None
    funnel: int
    removals: int
    card: dict[str, object] | None

    def gone(self) -> list[Gone]:
        """Return every sample to remove, in the order of the shards."""
        return [sample for plan in self.shards.values() for sample in plan.gone]

    def applied(self, manifest: DatasetManifest) -> DatasetManifest:
        """Return the manifest with the removal's funnel lines, which count the shards already rewritten."""
        entries = {shard.tar.path: shard for shard in manifest.shards}
        done = {
            path: plan for path, plan in self.shards.items() if entries[path].samples == plan.before - len(plan.gone)
        }
        samples = Counter(sample.kind for plan in done.values() for sample in plan.gone)
        pairs: Counter[str] = Counter()
        for plan in done.values():
            for sample in plan.gone:
                pairs[sample.kind] += sample.pairs
        left = {"samples": sum(s.samples for s in manifest.shards), "pairs": sum(s.pairs for s in manifest.shards)}
        lines = [_line(unit, left[unit], reasons) for unit, reasons in (("samples", samples), ("pairs", pairs))]
        record = Removal(
            list_sha256=self.list_sha256,
            entries=self.entries,
            samples=samples.total(),
            pairs=pairs.total(),
            shards={path: len(plan.gone) for path, plan in done.items()},
        )
        return manifest.model_copy(
            update={
                "funnel": [*manifest.funnel[: self.funnel], *lines],
                "removals": [*manifest.removals[: self.removals], record],
            }
        )


def _line(unit: str, left: int, reasons: Counter[str]) -> FunnelStep:
    return FunnelStep(
        stage="removed",
        unit=unit,
        rows_in=left + reasons.total(),
        rows_out=left,
        reasons=dict(sorted(reasons.items())),
    )


def read_journal(store: DatasetStore) -> Journal | None:
    """Return the journal of a removal that was cut off, or None.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return msgspec.json.decode(store.read(JOURNAL), type=Journal)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise DataError(f"{store}/{JOURNAL} is damaged ({error}): restore the dataset from a copy") from error


def write_journal(store: DatasetStore, journal: Journal) -> None:
    """Write a journal, whole or not at all."""
    store.write(JOURNAL, msgspec.json.encode(journal))
