"""End a run at a loss or gradient that is not finite, or leave the step out if `optim.skip_non_finite` allows it.

The weights are unchanged by such a step in any case (`openwit.training.engine.step`). All processes see the same sums,
so they count alike; the count is kept in checkpoints.
"""

import json
import shlex
from collections.abc import Callable
from itertools import count
from pathlib import Path

from openwit.schemas.common.atomic import atomic_write
from openwit.schemas.common.errors import DataError
from openwit.training.checkpoints.files import has_checkpoint
from openwit.training.config import TrainConfig
from openwit.training.engine.distributed import Group
from openwit.training.run.guards import non_finite


class NonFiniteSteps:
    """Counts steps that are left out, and ends the run at one too many.

    Args:
        config: of the run.
        group: the processes that share the batch; None for a single process.
        scaled: see `non_finite`.
        before: steps left out by earlier starts.
        say: receives a sentence for each step left out.
    """

    saved = False
    """Whether this start has begun to write a checkpoint, which is complete when the run has ended."""

    def __init__(
        self, config: TrainConfig, *, group: Group | None, scaled: bool, before: int, say: Callable[[str], None]
    ) -> None:
        self._config, self._group, self._scaled, self._say = config, group, scaled, say
        self._last = -1
        self.count = before

    def check(self, step: int, metrics: dict[str, float], *, keys: list[str]) -> None:
        """Leave a step out, or end the run; a step may be checked twice.

        Args:
            step: counted from 1.
            metrics: of the step, over all ranks.
            keys: samples of this rank.

        Raises:
            DataError: names the step, the metric, the file with the samples' keys, and commands that go on.
        """
        what = non_finite(metrics, scaled=self._scaled)
        if what is None or step == self._last:
            return
        self._last = step
        group, allowed = self._group, self._config.optim.skip_non_finite
        keys = keys if group is None else [key for part in group.all_gather_objects(keys) for key in part]
        path: Path = self._config.run / "non_finite.json"
        if group is None or group.main:
            shown = {name: str(value) for name, value in metrics.items()}
            atomic_write(path, json.dumps({"step": step, **shown, "keys": keys}, indent=1) + "\n")
        which = (
            f"{what} in step {step} (samples {', '.join(keys[:3])} and {max(0, len(keys) - 3)} more, all in {path})"
        )
        if self.count < allowed:
            self.count += 1
            self._say(f"warning: {which}: the step is left out ({self.count} of {allowed})")
            return
        more = f"; {self.count} steps had been left out before, as optim.skip_non_finite allows" if allowed else ""
        remedy = advice(self._config, goes_on=self.saved or has_checkpoint(self._config.run))
        raise DataError(f"{which}{more}; the weights of the last checkpoint are untouched: {remedy}")


def advice(config: TrainConfig, *, goes_on: bool) -> str:
    """Return what to do after a step that is not finite: commands that can be run as they are.

    Args:
        config: of the run.
        goes_on: whether there is a checkpoint to go on from.
    """
    run = config.run
    other = next(Path(f"{run}-{number}") for number in count(2) if not Path(f"{run}-{number}").exists())
    command = ["wit-train", "fit", str(run / "config.json")]
    if goes_on:
        command += ["--set", f"fork={run}"]
    command += ["--set", f"run={other}", "--set", f"optim.lr={config.optim.lr / 2:g}"]
    return (
        f"{'go on from it' if goes_on else 'begin anew'} with a lower rate by `{shlex.join(command)}`, add "
        "`--set optim.grad_clip=1`, or leave single steps out with optim.skip_non_finite"
    )
