"""The shapes of a step of the objectives over words do not depend on the data: on a GPU the host waits for nothing."""

import pytest
import torch

from openwit.training.config import ModelSettings, objective_settings
from openwit.training.models import token_terms
from openwit.training.objectives.base import Inputs
from openwit.training.objectives.registry import make_objective

SPEC = {
    "embed_dim": 16,
    "vision": {"image_size": 32, "patch_size": 16, "width": 16, "layers": 1, "heads": 2},
    "text": {"context_length": 12, "width": 16, "layers": 1, "heads": 2},
}


def batch(device: str) -> Inputs:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, 400, (6, 12), generator=generator)
    for row, end in enumerate((2, 11, 5, 7, 1, 9)):
        tokens[row, end], tokens[row, end + 1 :] = 49_407, 0
    return Inputs(torch.randn(6, 3, 32, 32, generator=generator).to(device), tokens.to(device))


@pytest.mark.parametrize("name", ["captioning", "bag_of_words"])
def test_nothing_waits_for_the_device(name: str) -> None:
    objective = make_objective(objective_settings(name))
    model = objective.build_model(ModelSettings.model_validate({"spec": SPEC})).to("meta")
    inputs = batch("meta")  # tensors without data: an operation that needs them raises
    loss = objective.loss(model, objective.embed(model, inputs), inputs, None)
    objective.num_terms(inputs)
    loss.value.backward()
    assert loss.value.shape == ()


def test_contrastive_captioning_waits_for_nothing() -> None:
    """As above, up to the outputs: the contrastive loss sets autocast, which there is none of for such tensors."""
    objective = make_objective(objective_settings("contrastive_captioning"))
    model = objective.build_model(ModelSettings.model_validate({"spec": SPEC})).to("meta")
    outputs = objective.embed(model, batch("meta"))
    torch.stack([output.sum() for output in outputs]).sum().backward()
    assert [output.shape for output in outputs] == [(6, 16), (6, 16), (6, 3)]


def test_captioning_is_the_same_without_waits() -> None:
    objective = make_objective(objective_settings("captioning"))
    torch.manual_seed(2)
    model = objective.build_model(ModelSettings.model_validate({"spec": SPEC}))
    inputs = batch("cpu")
    gradients = []
    for terms in (token_terms._counted_terms, token_terms._dense_terms):
        model.zero_grad()
        known = model.text(model.prefix(inputs.images), inputs.tokens[:, :-1])
        found = terms(model.logits, known, inputs.tokens, model.spec.text.vocabulary)
        (found[:, 0].sum() / found[:, 1].sum()).backward()
        gradients.append((found.detach(), *[p.grad.clone() for p in model.parameters() if p.grad is not None]))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
