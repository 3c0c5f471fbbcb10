"""Datasets for torch's DataLoader: an iterable one, and a collate function."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from openwit.schemas.common.errors import RecipeError
from openwit.training.data.sample_texts import CorruptSampleError
from openwit.training.data.sampling import Shuffle, bounds
from openwit.training.data.sharded import Example, ShardedDataset
from openwit.training.engine.distributed import process_from_environment

logger = logging.getLogger(__name__)

_BLOCK = 4096


class IterableShardedDataset(IterableDataset[Example]):
    """Samples of a dataset in shuffled order, split over ranks and DataLoader workers without duplicates.

    The order is a function of (seed, epoch): over all ranks and workers each epoch yields every sample exactly once.
    Samples that cannot be read are skipped and logged.

    Args:
        dataset: with a transform if images are to be tensors.
        seed: of the order.
        shuffle: False yields samples in the order of the dataset.
        rank, world: number of this process, and number of processes; None: of torch.distributed, torchrun or srun.
        even: drop up to `world` - 1 samples per epoch, so that all ranks have the same number.

    Raises:
        RecipeError: `rank` is not a number from 0 to `world` - 1.

    Example:
        >>> dataset = IterableShardedDataset(open_dataset("out/dataset", split="train", transform=model.preprocess))
        >>> loader = DataLoader(dataset, batch_size=64, num_workers=2, collate_fn=collate)
        >>> for epoch in range(3):
        ...     dataset.set_epoch(epoch)
        ...     for batch in loader:
        ...         images, texts = batch["images"], batch["texts"]
    """

    def __init__(
        self,
        dataset: ShardedDataset,
        *,
        seed: int = 0,
        shuffle: bool = True,
        rank: int | None = None,
        world: int | None = None,
        even: bool = False,
    ) -> None:
        super().__init__()
        known_rank, known_world = _process()
        self._rank = known_rank if rank is None else rank
        self._world = known_world if world is None else world
        if not 0 <= self._rank < self._world:
            raise RecipeError(f"rank {self._rank} must be a number from 0 to {self._world - 1}")
        self.dataset = dataset
        self._seed, self._shuffle, self._even = seed, shuffle, even
        # In shared memory, so that persistent workers see `set_epoch`.
        self._epoch: torch.Tensor = torch.zeros((), dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, counted from 0, whose order the next iteration has."""
        self._epoch.fill_(epoch)

    def __iter__(self) -> Iterator[Example]:
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        size = len(self.dataset)
        begin, stop = bounds(size - size % self._world if self._even else size, self._rank, self._world)
        positions = np.arange(begin + worker, stop, workers)
        order = Shuffle(size, self._seed) if self._shuffle else None
        epoch = int(self._epoch)
        for start in range(0, len(positions), _BLOCK):
            block = positions[start : start + _BLOCK]
            for index in (block if order is None else order.at(epoch, block)).tolist():
                try:
                    yield self.dataset[index]
                except CorruptSampleError as error:
                    logger.warning("skipped an unreadable sample: %s", error)


def collate(examples: Sequence[Example]) -> dict[str, Any]:
    """Combine examples into a batch, as `collate_fn` of a DataLoader.

    Returns:
        `images`: stacked (B, ...) if they are tensors, else a list; `texts`: B tuples of strings; `keys`: B strings;
        `metadata`: B dicts.
    """
    images = [example.image for example in examples]
    stacked = images and all(isinstance(image, torch.Tensor) for image in images)
    return {
        "images": torch.stack(images) if stacked else images,
        "texts": [example.texts for example in examples],
        "keys": [example.key for example in examples],
        "metadata": [example.metadata for example in examples],
    }


def _process() -> tuple[int, int]:
    """Return rank and number of processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    process = process_from_environment()
    return (0, 1) if process is None else (process.rank, process.size)
