"""Compute features by a model that is being trained, divided over all processes batch by batch."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openwit.schemas.common.errors import DataError
from openwit.training.config.choices import Layer
from openwit.training.config.zoo import InputSpec
from openwit.training.data.transforms import evaluation_transform
from openwit.training.evaluation.decoding import Pictured, Readable, decoded_batches
from openwit.training.evaluation.features.cache import Chunk
from openwit.training.evaluation.features.compute import Features, checked, image_number
from openwit.training.evaluation.features.encoders import encode_pixels
from openwit.training.evaluation.shares import Shares


@dataclass(frozen=True)
class RunningEncoder:
    """The image tower of a model that is trained, whose weights change.

    Attributes:
        model: the module, which may be sharded.
        device: of the weights.
        autocast: precision of the towers.
        layer: see `Layer`.
        name: what it is called in results.
    """

    model: Any
    device: torch.device
    autocast: torch.autocast
    layer: Layer = Layer.PENULTIMATE
    name: str = "model"

    @property
    def key(self) -> dict[str, Any]:
        """Return nothing: its features are not kept."""
        return {}

    @property
    def inputs(self) -> InputSpec:
        """See `Encoder`."""
        inputs: InputSpec = self.model.inputs
        return inputs

    def __call__(self, pixels: NDArray[np.uint8]) -> Tensor:
        """See `Encoder`."""
        return encode_pixels(self.model, pixels, self.device, self.autocast, self.layer)


def share_features(
    encoder: RunningEncoder,
    data: Readable[Pictured],
    *,
    batch_size: int,
    shares: Shares,
    progress: Callable[[int, int], None] | None = None,
) -> Features:
    """Return the features of all images of a set; each process computes every n-th batch.

    Args:
        encoder: of images.
        data: the set.
        batch_size: images at once.
        shares: of the processes of a run; all make the same calls and get the same result.
        progress: receives (done, total).

    Raises:
        DataError: no image can be read, or features are not finite; in all processes.
    """
    size, inputs = len(data), encoder.inputs
    if not size:
        raise DataError("the set holds no images")
    transform = evaluation_transform(inputs.image_size, fast=False, images=inputs.images)
    blank = np.zeros((1, inputs.image_size, inputs.image_size, 3), np.uint8)
    mine = shares.of(-(-size // batch_size))
    parts: dict[int, Chunk] = {}
    done = 0
    for number, (batch, bad) in zip(mine, decoded_batches(data, transform, size, batch_size, mine), strict=True):
        rows = np.zeros((0, 0), np.float32)
        if batch:
            rows = encoder(np.stack([decoded.pixels for decoded in batch])).numpy()
        elif shares.padded:  # the other processes need this one to gather the weights
            encoder(blank)
        if number is None:
            continue
        digest = hashlib.sha256("\0".join(bad).encode())
        images = np.zeros(len(batch) + len(bad), np.uint64)
        for decoded in batch:
            checksum = hashlib.sha256(decoded.sample.image).digest()
            digest.update(decoded.sample.key.encode() + b"\0" + checksum)
            images[decoded.number - number * batch_size] = image_number(checksum)
        indices = np.array([decoded.number for decoded in batch], dtype=np.int64)
        parts[number] = Chunk(rows, indices, bad, digest.hexdigest(), images)
        done += len(batch) + len(bad)
        if progress is not None:
            progress(done, size)
    every = shares.joined(parts)
    joined = np.concatenate([part.rows for part in every if len(part.rows)] or [np.zeros((0, 0), np.float32)])
    if not np.isfinite(joined).all():
        raise DataError(f"features of {encoder.name} are not finite")
    return checked(joined, every, encoder)
