"""Show what a step of a configuration needs in memory, by chunk."""

from rich.console import Console
from rich.table import Table

from openwit.schemas.common.errors import RecipeError
from openwit.training.config import CustomModelSettings, TrainConfig
from openwit.training.models.memory import StepMemory, step_memory
from openwit.training.objectives.registry import make_objective

_GIB = 1 << 30
_SMALLEST = 64


def run_memory(config: TrainConfig, *, console: Console, processes: int) -> None:
    """Print a table of chunks: the configured one, and halves of the batch.

    Args:
        config: of the run.
        console: to print to.
        processes: that share the batch.

    Raises:
        RecipeError: the model is given by dotted name, or the objective trains no two towers.
    """
    steps = chunk_table(config, processes=processes)
    names = ("chunk", "weights", "activations", "batch", "embeddings", "together")
    table = Table(title=f"GiB per GPU, batch {config.data.batch_size:,} over {processes}", title_justify="left")
    for name in names:
        table.add_column(name, justify="right")
    for chunk, step in steps.items():
        parts = (step.weights, step.activations, step.batch, step.embeddings, step.total)
        mark = " (set)" if chunk == config.memory.chunk else ""
        label = "none" if chunk is None else f"{chunk:,}"
        table.add_row(label + mark, *(f"{part / _GIB:.2f}" for part in parts))
    console.print(table)


def chunk_table(config: TrainConfig, *, processes: int) -> dict[int | None, StepMemory]:
    """Return the memory of a step by chunk, None first: no chunks."""
    import torch

    if isinstance(config.model, CustomModelSettings):
        raise RecipeError(f"the memory of {config.model.name} is not known: only that of built-in models is computed")
    objective = make_objective(config.objective)
    if not objective.embeds:
        raise RecipeError(f"the memory of objective {config.objective.name} is not computed: two towers' is")
    if config.objective.name == "contrastive_captioning":
        raise RecipeError("the memory of objective contrastive_captioning is not computed: its decoder is not counted")
    spec = config.model.resolved()
    with torch.device("meta"):
        parameters = sum(p.numel() for p in objective.build_model(config.model).parameters())
    own = -(-config.data.batch_size // processes)
    chunks: list[int | None] = [None]
    size = own // 2
    while size >= _SMALLEST:
        chunks.append(size)
        size //= 2
    if config.memory.chunk is not None and config.memory.chunk not in chunks:
        chunks.append(config.memory.chunk)
    return {
        chunk: step_memory(
            spec,
            batch=config.data.batch_size,
            chunk=chunk,
            parameters=parameters,
            processes=processes,
            lowered=config.precision != "fp32",
            recompute=config.memory.checkpoint_activations,
            sharded=config.distributed.strategy == "fsdp",
            ema=config.ema.decay is not None,
        )
        for chunk in sorted(chunks, key=lambda chunk: -(chunk or own + 1))
    }
