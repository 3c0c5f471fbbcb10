"""Average the weights of several checkpoints into one.

Within one run this is checkpoint averaging (Vaswani et al., arXiv 1706.03762, section 6.1); over several runs from one
initialisation, a model soup (Wortsman et al., arXiv 2203.05482).
"""

from collections.abc import Sequence
from pathlib import Path

from openwit.schemas.common.errors import RecipeError
from openwit.training.checkpoints.files import load_checkpoint, write_checkpoint
from openwit.training.checkpoints.load import average_states, weights_of
from openwit.training.config.choices import Weights


def average_checkpoints(checkpoints: Sequence[Path], out: Path, *, weights: Weights = Weights.MODEL) -> None:
    """Write the mean of the weights of checkpoints as a checkpoint that can be evaluated and exported.

    Its description is that of the last checkpoint, with the names of all.

    Args:
        checkpoints: files of one architecture.
        out: file to write (.pt); must not exist.
        weights: which weights to average.

    Raises:
        RecipeError: `out` exists or has another suffix, or a run kept no moving average.
        DataError: a checkpoint is missing or damaged, or they do not hold the same tensors.
    """
    if out.suffix != ".pt":
        raise RecipeError(f"{out} must end in .pt, as checkpoints do")
    if out.exists():
        raise RecipeError(f"{out} exists: choose another file")
    found = [load_checkpoint(path) for path in checkpoints]
    state = {
        **{name: value for name, value in found[-1].state.items() if name == "tokenizer"},
        "model": average_states([weights_of(checkpoint, weights) for checkpoint in found]),
    }
    names = [str(path) for path in checkpoints]
    write_checkpoint(out, found[-1].info.model_copy(update={"averaged": names, "milestone": False}), state)
