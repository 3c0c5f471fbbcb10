"""Encode images for probes: by a model's tower, by the same tower with random weights, or as plain pixels."""

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openwit.training.checkpoints.load import LoadedModel
from openwit.training.config.choices import Layer
from openwit.training.config.zoo import InputSpec
from openwit.training.data.transforms import normalise
from openwit.training.engine.runtime import make_autocast, pick_device
from openwit.training.evaluation.embed import evaluating
from openwit.training.evaluation.features.layers import image_features, pooled_pixels
from openwit.training.models.clip import Clip

PIXELS = 32
"""Side of the images of which raw pixels are taken."""


class Encoder(Protocol):
    """Maps images to features."""

    @property
    def name(self) -> str:
        """Return what it is, in words."""
        ...

    @property
    def key(self) -> dict[str, Any]:
        """Return JSON data that differ whenever features could differ: weights' checksum, layer, precision."""
        ...

    @property
    def inputs(self) -> InputSpec:
        """Return the size and the preprocessing of the images that it takes."""
        ...

    def __call__(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Map (B, size, size, 3) bytes to (B, D) float32 on the CPU."""
        ...


@dataclass(frozen=True)
class ModelEncoder:
    """The image tower of a model, on the GPU if there is one.

    Attributes:
        model: of `load_model`.
        layer: see `Layer`.
        name: what it is called in results.
    """

    model: LoadedModel
    layer: Layer = Layer.PENULTIMATE
    name: str = "model"

    def __post_init__(self) -> None:
        self.model.to(pick_device("auto"))

    @property
    def key(self) -> dict[str, Any]:
        """See `Encoder`."""
        autocast = make_autocast(self.model.device, self.model.precision)
        return {
            "weights": self.checksum,
            "layer": str(self.layer),
            "precision": str(autocast.fast_dtype) if autocast._enabled else "float32",
            "device": self.model.device.type,
            "inputs": self.inputs.model_dump(mode="json"),
        }

    @cached_property
    def checksum(self) -> str:
        """Return the checksum of the weights as they are in memory, whatever file or average they come from."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.model.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    @property
    def inputs(self) -> InputSpec:
        """See `Encoder`."""
        inputs: InputSpec = self.model.model.inputs
        return inputs

    def __call__(self, pixels: NDArray[np.uint8]) -> Tensor:
        """See `Encoder`."""
        autocast = make_autocast(self.model.device, self.model.precision)
        return encode_pixels(self.model.model, pixels, self.model.device, autocast, self.layer)


def encode_pixels(
    model: Any, pixels: NDArray[np.uint8], device: torch.device, autocast: torch.autocast, layer: Layer
) -> Tensor:
    """Map (B, size, size, 3) bytes to (B, D) float32 on the CPU, by the image tower of a module in evaluation mode."""
    with torch.inference_mode(), evaluating(model), autocast:
        images = normalise(torch.from_numpy(pixels).to(device), images=model.inputs.images)
        return image_features(model, images, layer).float().cpu()


@dataclass(frozen=True)
class RawPixels:
    """The pixels themselves, 0 to 1, of images of `side` by `side`: what a linear model has without any features."""

    side: int = PIXELS
    name: str = "raw pixels"

    @property
    def key(self) -> dict[str, Any]:
        """See `Encoder`."""
        return asdict(self)

    @property
    def inputs(self) -> InputSpec:
        """See `Encoder`."""
        return InputSpec(image_size=self.side, context_length=3)

    def __call__(self, pixels: NDArray[np.uint8]) -> Tensor:
        """See `Encoder`."""
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        return pooled_pixels(images, self.side)


def random_encoder(model: LoadedModel, seed: int = 0, layer: Layer = Layer.PENULTIMATE) -> ModelEncoder:
    """Return the tower of a model with new weights, as training begins with them: what the architecture alone does.

    Args:
        model: whose architecture is taken; its own weights stay.
        seed: of the weights.
        layer: see `Layer`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if model.checkpoint is not None:
            made: Any = model.objective.build_model(model.checkpoint.info.config.model)
        else:
            made = Clip(model.model.spec)
    new = LoadedModel(
        made.float().eval(),
        model.objective,
        model.tokenizer,
        objective_name=model.objective_name,
        precision=model.precision,
        threads=model.threads,
        about={"weights_file": f"random weights, seed {seed}"},
    )
    return ModelEncoder(new, layer, name=f"random weights, seed {seed}")


def key_digest(key: dict[str, Any]) -> str:
    """Return the sha256 of JSON data."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
