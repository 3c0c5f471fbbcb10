"""`speed.skip_unused` leaves out what the loss does not depend on: same loss, same gradients up to rounding."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from openwit.training.config.zoo import ClipSpec, ResNetSpec, TextSpec, VisionSpec
from openwit.training.models.blocks import Transformer
from openwit.training.models.clip import Clip
from openwit.training.models.text import GROUP_TEXTS

VISION = VisionSpec(image_size=32, patch_size=16, width=32, layers=2, heads=2)
TEXT = TextSpec(context_length=12, vocabulary=50, width=32, layers=2, heads=2)
TEXTS = 2 * GROUP_TEXTS + 3  # two groups, not of one size


def texts_of(number: int, length: int, vocabulary: int) -> Tensor:
    """Return texts of all lengths, with the end of text, the largest id, at their end."""
    tokens = torch.randint(1, vocabulary - 2, (number, length))
    ends = torch.randint(1, length, (number,))
    ends[0] = length - 1
    places = torch.arange(length)
    tokens[places == ends[:, None]] = vocabulary - 1
    return tokens.masked_fill(places > ends[:, None], 0)


def answer(spec: ClipSpec, *, skips: bool, recompute: bool = False) -> tuple[Tensor, dict[str, Tensor], nn.Module]:
    torch.manual_seed(0)
    model = Clip(spec)
    for module in model.modules():
        if isinstance(module, Transformer):
            module.skip_unused, module.recompute = skips, recompute
    images, tokens = torch.randn(TEXTS, 3, 32, 32), texts_of(TEXTS, 12, spec.text.vocabulary)
    loss = ((model.encode_image(images) @ model.encode_text(tokens).T) ** 3).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, model


CASES: dict[str, Any] = {
    "clip": {},
    "one_block": {"text": TEXT.model_copy(update={"layers": 1})},
    "both_ways": {"text": TEXT.model_copy(update={"causal": False, "pool": "last"})},
    "both_ways_to_the_end": {"text": TEXT.model_copy(update={"causal": False})},
    "pooled_by_mean": {"vision": VISION.model_copy(update={"pool": "mean", "layer_scale": 0.1})},
    "resnet": {"vision": ResNetSpec(image_size=32, layers=(1, 1, 1, 1), width=4, heads=4)},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_loss_and_gradients_are_the_same(case: dict[str, Any]) -> None:
    spec = ClipSpec(**{"embed_dim": 16, "vision": VISION, "text": TEXT, **case})
    loss, gradients, _ = answer(spec, skips=False)
    for recompute in (False, True):
        found, others, model = answer(spec, skips=True, recompute=recompute)
        torch.testing.assert_close(found, loss)
        assert others.keys() == gradients.keys()
        largest = max(float(gradient.abs().max()) for gradient in gradients.values())
        for name, gradient in gradients.items():
            torch.testing.assert_close(others[name], gradient, rtol=1e-3, atol=1e-6 * largest, msg=name)
        model.eval()
        plain = answer(spec, skips=False)[2].eval()
        tokens = texts_of(TEXTS, 12, 50)
        # An evaluation does not know the setting.
        assert torch.equal(model.encode_text(tokens), plain.encode_text(tokens))


def test_positions_that_nothing_depends_on_are_not_computed() -> None:
    """Counts the positions that pass through each block's MLP."""
    spec = ClipSpec(embed_dim=16, vision=VISION, text=TEXT)
    model = Clip(spec)
    counted: dict[str, int] = {}

    def count(name: str) -> Any:
        def hook(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            counted[name] = counted.get(name, 0) + given[0].shape[0] * given[0].shape[1]

        return hook

    for tower in ("visual", "text"):
        stack = getattr(model, tower).transformer
        stack.skip_unused = True
        for number, block in enumerate(stack.resblocks):
            block.mlp.register_forward_pre_hook(count(f"{tower}.{number}"))
    tokens = texts_of(TEXTS, 12, 50)
    ends = (tokens.argmax(1) + 1).sort().values
    model.encode_image(torch.randn(TEXTS, 3, 32, 32))
    model.encode_text(tokens)
    assert counted["visual.0"] == TEXTS * VISION.positions
    assert counted["visual.1"] == counted["text.1"] == TEXTS
    assert counted["text.0"] == sum(len(part) * int(part[-1]) for part in ends.tensor_split(2))
    assert counted["text.0"] < TEXTS * 12
