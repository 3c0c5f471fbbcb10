"""Describe in a sentence what is about to be trained."""

import torch
from torch import nn

from openwit.training.config import TrainConfig
from openwit.training.data.sources import Source


def describe(
    config: TrainConfig,
    model: nn.Module,
    source: Source,
    device: torch.device,
    step: int,
    processes: int | None,
    threads: int,
) -> str:
    """Return what is about to be trained, in one line.

    Args:
        step: at which it begins.
        processes: that share the batch; None for one that is not of a group.
        threads: of the CPU in each.
    """
    parameters = sum(p.numel() for p in model.parameters())
    embeddings = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    embedding = sum(module.weight.numel() for module in embeddings)
    where = f"from step {step}" if step else "from the beginning"
    shared = "" if processes is None else f"{processes} processes ({config.distributed.strategy}), "
    return (
        f"training {where} on {len(source)} samples of {source.name}/{source.split} for "
        f"{config.schedule.duration}: {parameters / 1e6:.1f}M parameters ({embedding / 1e6:.1f}M of them "
        f"token embedding), batch {config.data.batch_size}, {shared}{device.type}, {threads} CPU threads"
    )
