"""Average the weights of several checkpoints into one.

Within one run this is checkpoint averaging (Vaswani et al., arXiv 1706.03762, section 6.1); over several runs from one
initialisation, a model soup (Wortsman et al., arXiv 2203.05482); of a model before and after fine-tuning, with a share
of each, WiSE-FT (Wortsman et al., arXiv 2109.01903).
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from openwit.schemas.common.errors import DataError, RecipeError
from openwit.training.checkpoints.files import FOLDER, load_checkpoint, write_checkpoint
from openwit.training.checkpoints.initial import read_init
from openwit.training.checkpoints.load import average_states, weights_of
from openwit.training.config.choices import Weights
from openwit.training.models.clip import Clip
from openwit.training.models.weights import into_model, save_safetensors

logger = logging.getLogger(__name__)


def average_checkpoints(
    checkpoints: Sequence[Path],
    out: Path,
    *,
    weights: Weights = Weights.MODEL,
    shares: Sequence[float] | None = None,
) -> None:
    """Write the mean of the weights of checkpoints as a checkpoint that can be evaluated and exported.

    Its description is that of the last checkpoint, with the names of all. A `.safetensors` file is written from
    weights of any layout that `model.init` takes; it holds the architecture, but no tokenizer and no run.

    Args:
        checkpoints: files of one architecture.
        out: file to write (.pt or .safetensors); must not exist.
        weights: which weights to average.
        shares: weight of each, whose sum is 1; None: equal ones.

    Raises:
        RecipeError: `out` exists or has another suffix, or a run kept no moving average.
        DataError: a checkpoint is missing or damaged, or they do not hold the same tensors.
    """
    if out.suffix not in (".pt", ".safetensors"):
        raise RecipeError(f"{out} must end in .pt, as checkpoints do, or in .safetensors")
    if out.exists():
        raise RecipeError(f"{out} exists: choose another file")
    if shares is not None and (len(shares) != len(checkpoints) or not abs(sum(shares) - 1) <= 1e-6 or min(shares) < 0):
        raise RecipeError(f"shares must be {len(checkpoints)} numbers of 0 or more whose sum is 1")
    if out.suffix == ".safetensors":
        _average_weights(checkpoints, out, weights, shares)
        return
    found = [load_checkpoint(path) for path in checkpoints]
    state = {
        **{name: value for name, value in found[-1].state.items() if name == "tokenizer"},
        "model": average_states([weights_of(checkpoint, weights) for checkpoint in found], shares),
    }
    names = [str(path) for path in checkpoints]
    write_checkpoint(out, found[-1].info.model_copy(update={"averaged": names, "milestone": False}), state)


def _average_weights(paths: Sequence[Path], out: Path, weights: Weights, shares: Sequence[float] | None) -> None:
    found = [
        read_init(path, use=weights if _is_ours(path) else Weights.MODEL, report=logger.warning) for path in paths
    ]
    if any(each.tokenizer is not None for each in found):
        raise RecipeError(f"{out} cannot hold a tokenizer, which one of the checkpoints has: write a .pt")
    stated = [each for each in found if each.stated] or found
    spec = stated[-1].spec
    if spec is None or any(each.spec is None for each in found):
        raise RecipeError("only built-in architectures can be averaged into a .safetensors file")
    if any(each.spec != spec for each in stated):
        raise DataError("the weights to average are of different architectures, activations or preprocessing")
    state = average_states([{name: tensor.float() for name, tensor in each.state.items()} for each in found], shares)
    model = Clip(spec, init_logit_bias=0.0 if "logit_bias" in state else None)
    into_model(model, state)
    save_safetensors(model, out)


def _is_ours(path: Path) -> bool:
    return (path / FOLDER).is_dir() or (path.suffix == ".pt" and path.with_suffix(".json").is_file())


def parse_shares(text: str | None) -> list[float] | None:
    """Return the numbers of a list such as `0.3,0.7`; None if there is none.

    Raises:
        RecipeError: it is no list of numbers.
    """
    try:
        return None if text is None else [float(part) for part in text.split(",")]
    except ValueError:
        raise RecipeError(f"shares {text!r} must be numbers with commas, such as 0.3,0.7") from None
