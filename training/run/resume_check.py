"""Check whether two configurations are the same run: which keys determine the weights, and which may change."""

import re

from openwit.training.config import ModelSettings, TrainConfig

_NUMBER = re.compile(r"\.\d+")

# Keys that may differ when a run is resumed: they do not determine what is learned.
MUTABLE_KEYS = (
    "run",
    "threads",
    "memory",
    "speed",
    "distributed",
    "ema.evaluate",
    "log",
    "checkpoint",
    "eval",
    "data.dataset",
    "data.datasets.*.dataset",
    "data.tars",
    "data.table",
    "data.folder",
    "data.remote",
    "data.remote_timeout",
    "data.cache",
    "data.cache_bytes",
    "data.workers",
    "data.workers_in",
    "data.prefetch",
    "model.tokenizer",
    # Identified by their checksums.
    "model.init.weights",
    "fork.checkpoint",
    "optim.skip_non_finite",
)


def first_difference(old: TrainConfig, new: TrainConfig) -> tuple[str, object, object] | None:
    """Return the first key in which two configurations differ in what is learned, with both values; None if none.

    Paths may change: datasets and tars are identified by a checksum of their content, and a tokenizer by the
    merges that a checkpoint holds (`run_folder.resume_or_start`). In `MUTABLE_KEYS` an element of a list is `*`.
    """
    return _difference(_dumped(old), _dumped(new), "")


def _dumped(config: TrainConfig) -> dict[str, object]:
    """Return the plain values, with the vocabulary that null stands for: a tokenizer's file fills it in."""
    plain = config.model_dump(mode="json")
    if isinstance(config.model, ModelSettings) and not config.model.is_open:
        plain["model"]["vocabulary"] = config.model.resolved().text.vocabulary
    return plain


def _difference(old: object, new: object, key: str) -> tuple[str, object, object] | None:
    if _NUMBER.sub(".*", key) in MUTABLE_KEYS:
        return None
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            found = _difference(old.get(name), new.get(name), f"{key}.{name}" if key else name)
            if found is not None:
                return found
        return None
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        # A list of plain values differs as a whole; one of sections, such as data.datasets, in one of its keys.
        if old != new and not all(isinstance(one, dict) for one in (*old, *new)):
            return key, old, new
        pairs = zip(old, new, strict=True)
        parts = (_difference(one, other, f"{key}.{number}") for number, (one, other) in enumerate(pairs))
        return next((found for found in parts if found is not None), None)
    return None if old == new else (key, old, new)
