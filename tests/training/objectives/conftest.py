from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from openwit.training.config import ModelSettings
from openwit.training.config.zoo import ClipSpec, TextSpec, VisionSpec
from openwit.training.objectives.base import Inputs

VOCABULARY = 40
START, END = VOCABULARY - 2, VOCABULARY - 1
SPEC = ClipSpec(
    embed_dim=24,
    vision=VisionSpec(image_size=16, patch_size=8, width=32, layers=2, heads=2),
    text=TextSpec(context_length=10, vocabulary=VOCABULARY, width=32, layers=2, heads=2),
)


def rows(*texts: Sequence[int], length: int | None = None) -> Tensor:
    """Words to rows of tokens: start, words, end, zeros."""
    width = length if length is not None else max(len(text) for text in texts) + 2
    made = torch.zeros(len(texts), width, dtype=torch.int64)
    for row, text in zip(made, texts, strict=True):
        row[: len(text) + 2] = torch.tensor([START, *text, END])
    return made


def sample_inputs(count: int, seed: int = 0) -> Inputs:
    """Noise for images; texts of different words and lengths, no two equal."""
    generator = torch.Generator().manual_seed(seed)
    texts = []
    for number in range(count):
        length = 1 + int(torch.randint(0, 6, (), generator=generator))
        texts.append([1 + number, *torch.randint(0, START, (length,), generator=generator).tolist()])
    return Inputs(torch.randn(count, 3, 16, 16, generator=generator), rows(*texts))


class FakeGroup:
    """One rank's view of a group whose tensors are all in this process, so that gradients reach every rank's."""

    def __init__(self, rank: int, parts: Sequence[Sequence[Tensor]]) -> None:
        self.rank = rank
        self.size = len(parts[0])
        self._parts = parts
        self._counts = [len(part) for part in parts[0]]

    sizes = None

    def gather_with_grad(self, tensor: Tensor, counts: object = None) -> Tensor:  # noqa: ARG002
        for part in self._parts:
            if part[self.rank] is tensor:
                return torch.cat(list(part))
        tokens = next(part for part in self._parts if not part[0].is_floating_point())
        return torch.cat([F.pad(part, (0, tensor.shape[1] - part.shape[1])) for part in tokens])

    def sum(self, tensor: Tensor) -> Tensor:
        assert tensor.ndim == 0
        terms = self._parts[0]
        return torch.stack([part[:, 1].sum() for part in terms]).sum()

    def all_gather_ints(self, value: int) -> list[int]:
        assert self._counts[self.rank] == value
        return self._counts


@pytest.fixture(scope="session")
def made() -> SimpleNamespace:
    """What the tests of this folder share."""
    return SimpleNamespace(
        SPEC=SPEC, MODEL=ModelSettings(spec=SPEC), rows=rows, sample_inputs=sample_inputs, FakeGroup=FakeGroup
    )
