from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from support import batch_of_thirteen as tiny
from torch import nn

from openwit.training.data.transforms import normalise
from openwit.training.engine.gradcache import Hooks, Part, backward, backward_parts, chunks_of
from openwit.training.models.clip import Clip
from openwit.training.models.norms import running_statistics_frozen
from openwit.training.objectives.base import Inputs


@pytest.mark.parametrize("chunk", [1, 3, 5, 12, 13, 99])
@pytest.mark.parametrize("objective", ["contrastive", "same_text", "sigmoid", "contrastive_captioning"])
def test_gradients_are_those_of_the_whole_batch(objective: str, chunk: int) -> None:
    plain = tiny.gradients({"objective": objective})
    pieces = tiny.gradients({"objective": objective, "chunk": chunk})
    assert plain.keys() == pieces.keys()
    assert tiny.relative_error(pieces, plain) < 1e-5


class _Noisy(nn.Module):
    """A model whose chance comes from torch's generator, unlike patch dropout in the loop."""

    def __init__(self, clip: Clip) -> None:
        super().__init__()
        self.clip = clip
        self.logit_scale = clip.logit_scale
        self.spec = clip.spec

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(self.clip.encode_image(images), 0.3)

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(self.clip.encode_text(tokens), 0.3)


def test_chance_of_the_first_pass_is_replayed_in_the_second() -> None:
    """The chunks' masks put together are those of the batch only if each is drawn twice alike: the gradient of the
    cached loss must be that of the loss whose masks are written down here."""
    inputs, objective = tiny.make_batch(), tiny.objective_of("contrastive")
    model = _Noisy(tiny.make_model())
    torch.manual_seed(3)
    cached = backward(objective, model, inputs, autocast=tiny.autocast(), chunk=5)
    after = torch.rand(())
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    torch.manual_seed(3)
    pieces = [objective.embed(model, inputs.chunk(start, start + 5)) for start in (0, 5, 10)]
    loss = objective.loss(model, tuple(torch.cat(parts) for parts in zip(*pieces, strict=True)), inputs, None)
    loss.value.backward()
    assert torch.rand(()) == after
    torch.testing.assert_close(cached.value, loss.value.detach())
    for name, p in model.named_parameters():
        torch.testing.assert_close(found[name], p.grad, rtol=1e-4, atol=1e-6)


@contextmanager
def most_saved() -> Iterator[list[int]]:
    """Counts the elements that autograd holds for its backward passes; the answer's last entry is the maximum."""
    held, most = [0], [0]

    class Held:
        def __init__(self, tensor: torch.Tensor) -> None:
            self.tensor = tensor
            held[0] += tensor.numel()
            most[0] = max(most[0], held[0])

        def __del__(self) -> None:
            held[0] -= self.tensor.numel()

    with torch.autograd.graph.saved_tensors_hooks(Held, lambda kept: kept.tensor):
        yield most


def test_memory_is_that_of_a_chunk() -> None:
    kept = {}
    for size, chunk in ((8, None), (32, None), (16, 4), (32, 4), (128, 4)):
        model = tiny.make_model()
        with most_saved() as most:
            backward(
                tiny.objective_of("contrastive"), model, tiny.make_batch(size), autocast=tiny.autocast(), chunk=chunk
            )
        kept[size, chunk] = most[0]
    weights = sum(p.numel() for p in model.parameters())
    assert kept[32, None] - weights > 3 * (kept[8, None] - weights)
    assert kept[16, 4] == kept[32, 4]
    # Only the loss itself, with its matrix of similarities, grows: an eighth of what the towers would have kept.
    assert kept[128, 4] < kept[32, None] / 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_both_passes_cast_alike(dtype: torch.dtype) -> None:
    """Gradients of the chunks are those of the batch up to the precision's own rounding, and none is missing."""
    found = []
    for chunk in (None, 5):
        model = tiny.make_model()
        scale = torch.tensor(128.0) if dtype == torch.float16 else None
        torch.manual_seed(1)
        model.visual.kept_patches = 16
        objective, autocast = tiny.objective_of("contrastive"), tiny.autocast(dtype)
        backward(objective, model, tiny.make_batch(), autocast=autocast, chunk=chunk, scale=scale)
        assert tiny.parameters_without_gradient(model) == []
        found.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    error = (found[0] - found[1]).norm() / found[0].norm()
    assert error < (2e-2 if dtype == torch.bfloat16 else 3e-3)


def test_a_scale_multiplies_the_gradients_and_not_the_loss() -> None:
    answers = []
    for scale in (None, torch.tensor(64.0)):
        for chunk in (None, 4):
            model = tiny.make_model("sigmoid")
            model.visual.kept_patches = 16
            objective, autocast = tiny.objective_of("sigmoid"), tiny.autocast()
            loss = backward(objective, model, tiny.make_batch(), autocast=autocast, chunk=chunk, scale=scale)
            answers.append((loss.value, model.visual.proj.grad / (1 if scale is None else scale)))
    for value, gradient in answers[1:]:
        torch.testing.assert_close(value, answers[0][0])
        torch.testing.assert_close(gradient, answers[0][1], rtol=1e-4, atol=1e-7)


class _Mean:
    """A separable objective: the mean over words that are not padding, of which samples have different numbers."""

    separable = True

    def num_terms(self, inputs: Any) -> torch.Tensor:
        return (inputs.tokens[:, 0] % 3 + 1).sum().float()

    def embed(self, model: Clip, inputs: Any) -> tuple[torch.Tensor]:
        return (model.encode_image(inputs.images),)

    def loss(self, model: Clip, outputs: Any, inputs: Any, group: Any) -> Any:  # noqa: ARG002
        from openwit.training.objectives.base import Loss

        counts = (inputs.tokens[:, 0] % 3 + 1).float()
        value = (outputs[0][:, 0] * counts).sum() / counts.sum()
        return Loss(value, {"twice": 2 * value.detach()})


def test_a_mean_over_samples_is_added_up_without_a_second_pass() -> None:
    answers = []
    for chunk in (None, 4):
        model = tiny.make_model()
        model.visual.kept_patches = 16
        loss = backward(_Mean(), model, tiny.make_batch(), autocast=tiny.autocast(), chunk=chunk)
        answers.append((loss.value, loss.metrics["twice"], model.visual.proj.grad))
    for one, other in zip(*answers, strict=True):
        torch.testing.assert_close(one, other)


def test_running_statistics_move_once() -> None:
    states = []
    for chunk in (None, 5):
        model = tiny.make_model(spec=tiny.RESNET)
        backward(
            tiny.objective_of("contrastive"), model, tiny.make_batch(13, 32), autocast=tiny.autocast(), chunk=chunk
        )
        states.append(model.state_dict())
    assert int(states[0]["visual.bn1.num_batches_tracked"]) == 1
    # Once a chunk, in the second pass only.
    assert int(states[1]["visual.bn1.num_batches_tracked"]) == 3
    norm = nn.BatchNorm2d(2)
    with running_statistics_frozen(norm):
        norm(torch.randn(4, 2, 3, 3))
    assert norm.running_mean.tolist() == [0, 0]
    assert int(norm.num_batches_tracked) == 0
    assert norm.momentum == 0.1


def test_only_a_chunk_is_ever_normalised_and_the_first_does_not_wait() -> None:
    """Bytes arrive chunk by chunk: gradients are to the bit those of the whole batch of normalised images."""
    whole, objective = tiny.make_batch(), tiny.objective_of("contrastive")
    pixels = ((whole.images.clamp(-2, 2) + 2) * 63).to(torch.uint8).permute(0, 2, 3, 1)
    events: list[str] = []

    def arriving() -> Iterator[Part]:
        for number, part in enumerate(chunks_of(Inputs(pixels, whole.tokens), 5)):
            events.append(f"made {number}")
            yield part

    def prepare(inputs: Inputs) -> Inputs:
        events.append(f"normalised {len(inputs.images)}")
        return Inputs(normalise(inputs.images), inputs.tokens)

    found = []
    for parts in (False, True):
        model = tiny.make_model()
        model.visual.kept_patches = 16
        if parts:
            backward_parts(
                objective,
                model,
                arriving(),
                several=True,
                autocast=tiny.autocast(),
                scale=None,
                group=None,
                hooks=Hooks(prepare=prepare),
            )
        else:
            floats = Inputs(normalise(pixels), whole.tokens)
            backward(objective, model, floats, autocast=tiny.autocast(), chunk=5)
        found.append([p.grad for p in model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    first_pass = [
        f"{what} {n}" for number, n in enumerate((5, 5, 3)) for what, n in (("made", number), ("normalised", n))
    ]
    assert events == [*first_pass, "normalised 5", "normalised 5", "normalised 3"]
