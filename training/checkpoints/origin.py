"""Describe where the first weights of a run came from; stored in its log and in each of its checkpoints."""

from typing import Literal

import pydantic


class Origin(pydantic.BaseModel):
    """Weights or a checkpoint that a run began from.

    Attributes:
        kind: `weights` (`model.init`) or `fork`.
        path: of the file, as it was given.
        sha256: of the file.
        loaded: number of tensors that were loaded.
        left_out: names of tensors of the file that were not.
        initial: names of tensors of the model that kept their initial values.
        notes: sentences on what was changed or assumed.
        step, samples: position of the checkpoint that was forked.
        data_step, data_samples: position of the run at which the order of its data begins.
        before: origin of the run that the checkpoint belongs to.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    kind: Literal["weights", "fork"]
    path: str
    sha256: str
    loaded: int = 0
    left_out: list[str] = []
    initial: list[str] = []
    notes: list[str] = []
    step: int = 0
    samples: int = 0
    data_step: int = 0
    data_samples: int = 0
    before: "Origin | None" = None

    def sentences(self) -> list[str]:
        """Return what a user should know, a sentence each."""
        said = [f"began from {self.path} (sha256 {self.sha256[:12]}): {self.loaded} tensors loaded"]
        if self.kind == "fork":
            said = [f"forked from {self.path} at step {self.step} (sha256 {self.sha256[:12]})"]
        if self.left_out:
            said.append(f"not loaded: {_named(self.left_out)}")
        if self.initial:
            said.append(f"left at initial values: {_named(self.initial)}")
        return [*said, *self.notes]


def _named(names: list[str], most: int = 5) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more (all in the checkpoint)" if more > 0 else "")
