"""Read the settings of the experiment and check that its trainings differ in objective and folder only."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.settings import Settings, load_settings
from openwit.training.config import TrainConfig
from openwit.training.config.limits import MOST_SAMPLES, MOST_TOKEN_IDS


class Experiment(Settings):
    """Trainings with different objectives, each with several seeds, and how their checkpoints are scored."""

    out: Path = Field(description="folder of runs, points and figures")
    configurations: list[Path] = Field(
        min_length=2, max_length=16, description="training configurations beside this file, the slowest learner first"
    )
    seeds: list[int] = Field(
        [0, 1, 2], min_length=1, max_length=100, description="of initial weights and order of samples"
    )
    dataset: Path | None = Field(None, description="dataset folder; null: that of the configurations")
    split: str = Field("val", description="held-out split for retrieval and the choice")
    vocabulary: int | None = Field(
        None,
        gt=514,
        le=MOST_TOKEN_IDS,
        description="ids of a vocabulary learned from the training texts; null: that of the configurations",
    )
    zero_shot: Path | None = Field(None, description="labelled images, see `wit-train zero-shot`; null: none")
    prompts: str = Field("paper", description="templates of zero-shot")
    zero_shot_limit: int | None = Field(
        1000, ge=1, le=MOST_SAMPLES, description="labelled images, a fixed random sample; null: all"
    )
    retrieval_limit: int | None = Field(
        None, ge=2, le=MOST_SAMPLES, description="images of the held-out split for retrieval; null: all"
    )
    choice: int = Field(
        100, ge=0, le=100_000, description="images and texts matched by every objective's own score; 0: none"
    )


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> tuple[Experiment, dict[str, TrainConfig]]:
    """Return the settings, and each training by the name of its objective, for the first seed.

    Raises:
        RecipeError: the settings are wrong, or the trainings differ in more than objective and run.
    """
    experiment = load_settings(path, Experiment, overrides)
    if len(set(experiment.seeds)) != len(experiment.seeds):
        raise RecipeError(f"{path}: seeds repeat: {', '.join(map(str, experiment.seeds))}")
    configs: dict[str, TrainConfig] = {}
    for each in experiment.configurations:
        where = each if each.is_absolute() else path.parent / each
        config = load_settings(
            where, TrainConfig, [] if experiment.dataset is None else [_dataset(experiment.dataset)]
        )
        name = config.objective.name
        if name in configs:
            raise RecipeError(f"{path}: two configurations train {name}")
        configs[name] = config
    first, *others = configs.values()
    for config in others:
        for key in TrainConfig.model_fields:
            if key not in ("run", "objective") and getattr(config, key) != getattr(first, key):
                raise RecipeError(
                    f"{path}: {config.objective.name} and {first.objective.name} differ in {key}; they are compared "
                    "only if they differ in run and objective alone"
                )
    if first.schedule.duration.unit == "minutes":
        raise RecipeError(
            f"{path}: schedule.duration is in minutes, but the axis of the figure is samples: use epochs"
        )
    return experiment, configs


def _dataset(folder: Path) -> str:
    return f"data.dataset={folder}"
