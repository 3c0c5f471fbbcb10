"""Python API of the trainer; `import openwit` gives the same names."""

from collections.abc import Sequence
from pathlib import Path

from openwit.schemas.common.settings import load_settings
from openwit.training.checkpoints.load import LoadedModel, load_model
from openwit.training.config import TrainConfig
from openwit.training.data.open import open_dataset
from openwit.training.data.sample_texts import CorruptSampleError
from openwit.training.data.sharded import Example, ShardedDataset
from openwit.training.data.torch_dataset import IterableShardedDataset, collate
from openwit.training.evaluation.evaluators import EvalContext, Evaluation, Evaluator
from openwit.training.objectives.base import EmbeddingObjective, Inputs, Loss, Objective, gathered
from openwit.training.run.loop import fit
from openwit.training.run.outcome import Outcome
from openwit.training.run.progress import Display, Status

__all__ = [
    "CorruptSampleError",
    "Display",
    "EmbeddingObjective",
    "EvalContext",
    "Evaluation",
    "Evaluator",
    "Example",
    "Inputs",
    "IterableShardedDataset",
    "LoadedModel",
    "Loss",
    "Objective",
    "Outcome",
    "ShardedDataset",
    "Status",
    "TrainConfig",
    "collate",
    "fit",
    "gathered",
    "load_config",
    "load_model",
    "open_dataset",
]


def load_config(path: str | Path, *, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a training configuration from YAML.

    Args:
        path: the file.
        overrides: `a.b=value` strings; values are read as YAML.

    Raises:
        RecipeError: the file is missing or not YAML, or a key or value is wrong.

    Example:
        >>> config = load_config("demo/train.yaml", overrides=["run=out/run", "optim.lr=1e-3"])
    """
    return load_settings(Path(path), TrainConfig, overrides)
