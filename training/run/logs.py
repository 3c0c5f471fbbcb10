"""Log metrics: one JSON object per line in metrics.jsonl, and the same values for TensorBoard.

The files of an object store cannot be appended to. There new records are sent in pieces of their own, about twice a
minute, and the pieces are joined at the end (`openwit.training.run.stored_lines`); TensorBoard's files, which its own
library writes, lie in a temporary folder.
"""

import hashlib
import json
import math
import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.storage.leases import Hold
from openwit.schemas.common.storage.store_path import is_store
from openwit.training.run.stored_lines import StoredLines, joined, rewrite

METRICS_NAME = "metrics.jsonl"


class MetricsLog:
    """Appends records; a record is on disk when `write` returns (in a store, see above).

    Records after the step that a run resumes at are removed first, as they will be written again.

    Args:
        run: folder of the run.
        step: at which the run resumes; 0 for a new run.
        tensorboard: whether to write event files too.
        wandb: project of Weights & Biases to log to as well.
        config: what the run is, for Weights & Biases.
        held: the lock of the run's folder.

    Raises:
        RecipeError: wandb is requested and not installed.
    """

    def __init__(
        self,
        run: Path,
        step: int,
        *,
        tensorboard: bool,
        wandb: str | None = None,
        config: dict[str, Any] | None = None,
        held: Hold | None = None,
    ) -> None:
        path = run / METRICS_NAME
        _truncate(path, step)
        self._file: IO[str] | StoredLines
        self.elsewhere = ""
        """A sentence on where files lie that are not in the run's folder."""
        events = run / "tensorboard"
        if is_store(run):
            self._file = StoredLines(path, held)
            if tensorboard:
                events = Path(tempfile.mkdtemp(prefix="openwit-tensorboard-"))
                self.elsewhere = f"TensorBoard files are written to {events}, as they cannot be written to {run}"
        else:
            self._file = path.open("a", encoding="utf-8", buffering=1)
        purge = step + 1 if step else None
        self._writer = _tensorboard(events, purge) if tensorboard else None
        self._wandb = _wandb(wandb, run, config or {}) if wandb is not None else None

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self._writer is not None:
            self._writer.close()
        if self._wandb is not None:
            self._wandb.finish()

    def write(self, kind: str, step: int, metrics: dict[str, float]) -> None:
        """Write `{"kind": kind, "step": step, **metrics}`; values that are not finite become null."""
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        self._file.write(json.dumps({"kind": kind, "step": step, **finite}) + "\n")
        if self._writer is not None:
            for name, value in metrics.items():
                self._writer.add_scalar(f"{kind}/{name}", value, step)
        if self._wandb is not None:
            self._wandb.log({f"{kind}/{name}": value for name, value in finite.items()}, step=step)

    def picture(self, kind: str, step: int, name: str, pixels: NDArray[np.uint8]) -> None:
        """Show (H, W, 3) pixels in TensorBoard."""
        if self._writer is not None:
            self._writer.add_image(f"{kind}/{name}", pixels, step, dataformats="HWC")

    def configuration(self, step: int, config: dict[str, Any]) -> None:
        """Show the configuration as a text in TensorBoard."""
        if self._writer is not None:
            text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
            self._writer.add_text("configuration", "".join(f"    {line}\n" for line in text.splitlines()), step)

    def hyper_parameters(self, config: dict[str, Any], metrics: dict[str, float]) -> None:
        """Give the plain values of the configuration to TensorBoard, with the names of the final metrics.

        The metrics' values are those of the scalars of these names.
        """
        if self._writer is None:
            return
        from torch.utils.tensorboard.summary import hparams

        for summary in hparams(plain_values(config), metrics):  # type: ignore[no-untyped-call]
            self._writer.file_writer.add_summary(summary)

    def flush(self) -> None:
        """Send what is not in the store yet: called before a checkpoint, which a resumed run begins at."""
        self._file.flush()

    def warn(self, step: int, cause: str, sentence: str) -> None:
        """Write `{"kind": "warning", "step": step, "cause": cause, "sentence": sentence}`."""
        record = {"kind": "warning", "step": step, "cause": cause, "sentence": sentence}
        self._file.write(json.dumps(record) + "\n")

    def note(self, kind: str, step: int, record: dict[str, Any]) -> None:
        """Write `{"kind": kind, "step": step, **record}`, of any plain values."""
        self._file.write(json.dumps({"kind": kind, "step": step, **record}) + "\n")


class NoLog:
    """Discards records; used by all processes except the first, which writes them."""

    def __enter__(self) -> "NoLog":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, kind: str, step: int, metrics: dict[str, float]) -> None:
        """See `MetricsLog`."""

    def picture(self, kind: str, step: int, name: str, pixels: NDArray[np.uint8]) -> None:
        """See `MetricsLog`."""

    def configuration(self, step: int, config: dict[str, Any]) -> None:
        """See `MetricsLog`."""

    def hyper_parameters(self, config: dict[str, Any], metrics: dict[str, float]) -> None:
        """See `MetricsLog`."""

    def flush(self) -> None:
        """See `MetricsLog`."""

    def warn(self, step: int, cause: str, sentence: str) -> None:
        """See `MetricsLog`."""

    def note(self, kind: str, step: int, record: dict[str, Any]) -> None:
        """See `MetricsLog`."""


def read_metrics(run: Path) -> list[dict[str, object]]:
    """Return the records of a run, without a last line that a crash truncated."""
    return [record for _, record in _records_in(joined(run / METRICS_NAME))]


def plain_values(config: dict[str, Any], prefix: str = "") -> dict[str, str | float | bool]:
    """Return the numbers, words and switches of a configuration by dotted key; lists as JSON, nothing for null."""
    found: dict[str, str | float | bool] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            found |= plain_values(value, f"{prefix}{key}.")
        elif isinstance(value, str | int | float):
            found[prefix + key] = value
        elif value is not None:
            found[prefix + key] = json.dumps(value)
    return found


def _tensorboard(folder: Path, purge_step: int | None) -> Any:
    # Imported here because it takes a second, which a run without TensorBoard does not need.
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=purge_step)


def _wandb(project: str, run: Path, config: dict[str, Any]) -> Any:
    try:
        import wandb  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise RecipeError("log.wandb needs wandb: pip install 'openwit[wandb]', or leave log.wandb out") from error
    # Identified by the run folder, so that a resumed run continues the same record.
    name = hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:16]
    folder = tempfile.mkdtemp(prefix="openwit-wandb-") if is_store(run) else str(run)
    return wandb.init(project=project, id=name, name=run.name, dir=folder, config=config, resume="allow")


def _truncate(path: Path, step: int) -> None:
    text = joined(path)
    kept = "".join(line + "\n" for line, record in _records_in(text) if _step_of(record) <= step)
    if kept != text:
        rewrite(path, kept)


def _step_of(record: dict[str, object]) -> float:
    step = record.get("step")
    return step if isinstance(step, int) else math.inf


def _records_in(text: str) -> list[tuple[str, dict[str, object]]]:
    found = []
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            found.append((line, record))
    return found
