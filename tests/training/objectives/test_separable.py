"""Bag of words and captioning: means over terms of one sample each."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from openwit.training.config import objective_settings
from openwit.training.config.zoo import spec_of
from openwit.training.models import token_terms
from openwit.training.models.bag_of_words import BagOfWords
from openwit.training.models.captioner import Captioner
from openwit.training.objectives import captioning
from openwit.training.objectives.base import Inputs, Objective
from openwit.training.objectives.registry import make_model, make_objective

NAMES = ("bag_of_words", "captioning")


def pair_of(name: str, made: SimpleNamespace) -> tuple[Objective, nn.Module]:
    torch.manual_seed(0)
    chosen = objective_settings(name)
    return make_objective(chosen), make_model(made.MODEL, chosen)


def plain_bag_of_words(model: BagOfWords, inputs: Inputs) -> Tensor:
    """The definition, sample by sample and word by word."""
    losses = []
    for logits, row in zip(model(inputs.images), inputs.tokens.tolist(), strict=True):
        words = set(row[1 : row.index(max(row))])
        chances = logits.exp() / logits.exp().sum()
        losses += [-sum(chances[word].log() for word in words) / len(words)] if words else []
    return torch.stack(losses).mean()


def plain_captioning(model: Captioner, inputs: Inputs) -> Tensor:
    """The definition: each text alone, untrimmed by anything, and a full softmax."""
    losses = []
    for image, row in zip(inputs.images, inputs.tokens.tolist(), strict=True):
        text = torch.tensor(row[: row.index(max(row)) + 1])[None]
        logits = model.logits(model.text(model.prefix(image[None]), text))[0]
        chances = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
        losses += [-chances[place, text[0, place + 1]].log() for place in range(text.shape[1] - 1)]
    return torch.stack(losses).mean()


def gradients(value: Tensor, model: nn.Module) -> Tensor:
    return torch.cat([part.flatten() for part in torch.autograd.grad(value, list(model.parameters()))])


@pytest.mark.parametrize("name", NAMES)
def test_value_and_gradients_are_those_of_the_definition_in_float64(name: str, made: SimpleNamespace) -> None:
    objective, model = pair_of(name, made)
    inputs = made.sample_inputs(6)
    loss = objective.loss(model, objective.embed(model, inputs), inputs, None)
    found = gradients(loss.value, model)
    plain = plain_bag_of_words if name == "bag_of_words" else plain_captioning
    double = model.double()
    expected = plain(double, Inputs(inputs.images.double(), inputs.tokens))
    assert float(loss.value) == pytest.approx(float(expected), rel=1e-5)
    wanted = gradients(expected, double)
    assert (found - wanted).norm() < 1e-5 * wanted.norm()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=8, deadline=None)
@given(cut=st.integers(1, 6), seed=st.integers(0, 50))
def test_chunks_weighed_by_units_add_up_to_the_whole(name: str, made: SimpleNamespace, cut: int, seed: int) -> None:
    objective, model = pair_of(name, made)
    inputs = made.sample_inputs(7, seed)
    empty = made.rows([], length=inputs.tokens.shape[1])
    inputs = Inputs(inputs.images, torch.cat([inputs.tokens[:6], empty]))
    assert objective.separable
    whole = objective.loss(model, objective.embed(model, inputs), inputs, None)
    total = torch.zeros(())
    metrics = dict.fromkeys(whole.metrics, 0.0)
    for chunk in (inputs.chunk(0, cut), inputs.chunk(cut, 7)):
        share = objective.loss(model, objective.embed(model, chunk), chunk, None)
        weight = objective.num_terms(chunk) / objective.num_terms(inputs)
        total = total + share.value * weight
        for key, metric in share.metrics.items():
            metrics[key] += float(metric * weight)
    assert torch.allclose(total, whole.value, rtol=1e-5)
    assert metrics == pytest.approx({key: float(metric) for key, metric in whole.metrics.items()}, abs=1e-6)
    wanted = gradients(whole.value, model)
    assert (gradients(total, model) - wanted).norm() < 1e-5 * wanted.norm()


@pytest.mark.parametrize("name", NAMES)
def test_outputs_in_pieces_and_over_ranks_give_the_whole(name: str, made: SimpleNamespace) -> None:
    objective, model = pair_of(name, made)
    inputs = made.sample_inputs(7)
    whole = objective.loss(model, objective.embed(model, inputs), inputs, None)
    pieces = [objective.embed(model, inputs.chunk(*span))[0] for span in ((0, 3), (3, 7))]
    joined = objective.loss(model, (torch.cat(pieces),), inputs, None)
    assert torch.allclose(joined.value, whole.value, rtol=1e-6)
    shares = [objective.loss(model, (pieces[rank],), inputs, made.FakeGroup(rank, [pieces])) for rank in (0, 1)]
    assert torch.allclose(shares[0].value + shares[1].value, whole.value, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_order_and_padding_do_not_matter(name: str, made: SimpleNamespace) -> None:
    objective, model = pair_of(name, made)
    inputs = made.sample_inputs(5)
    value = objective.loss(model, objective.embed(model, inputs), inputs, None).value
    order = [3, 0, 4, 1, 2]
    room = made.SPEC.text.context_length - inputs.tokens.shape[1]
    other = Inputs(inputs.images[order], F.pad(inputs.tokens[order], (0, room)))
    assert torch.allclose(objective.loss(model, objective.embed(model, other), other, None).value, value, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_texts_without_words_do_not_divide_by_nothing(name: str, made: SimpleNamespace) -> None:
    objective, model = pair_of(name, made)
    inputs = Inputs(torch.randn(2, 3, 16, 16), made.rows([], []))
    loss = objective.loss(model, objective.embed(model, inputs), inputs, None)
    loss.value.backward()
    assert loss.value.isfinite()
    assert (float(loss.value) == 0) == (name == "bag_of_words")  # an empty caption has an end to predict


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_the_negative_of_the_losses(
    name: str, made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective, model = pair_of(name, made)
    model.eval()
    inputs = made.sample_inputs(4)
    scores = objective.score(model, inputs.images[:3], inputs.tokens)
    assert scores.shape == (3, 4)
    assert scores.dtype == torch.float32
    assert not scores.requires_grad
    for i in range(3):
        for j in range(4):
            one = Inputs(inputs.images[i : i + 1], inputs.tokens[j : j + 1])
            loss = objective.loss(model, objective.embed(model, one), one, None).value
            terms = 1 if name == "bag_of_words" else float(objective.num_terms(one))
            assert float(scores[i, j]) == pytest.approx(-float(loss) * terms, rel=1e-4)
    monkeypatch.setattr(captioning, "SCORED_PAIRS", 4)
    assert torch.allclose(objective.score(model, inputs.images[:3], inputs.tokens), scores, rtol=1e-5)


def test_captioning_in_blocks_is_the_same(made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    objective, model = pair_of("captioning", made)
    inputs = made.sample_inputs(6)

    def value() -> Tensor:
        return objective.loss(model, objective.embed(model, inputs), inputs, None).value

    whole = gradients(value(), model)
    monkeypatch.setattr(token_terms, "LOGITS_AT_ONCE", 5 * made.SPEC.text.vocabulary)
    assert (gradients(value(), model) - whole).norm() < 1e-6 * whole.norm()


def test_a_token_is_predicted_from_those_before_it_only(made: SimpleNamespace) -> None:
    _, model = pair_of("captioning", made)
    assert isinstance(model, Captioner)
    prefix = model.prefix(torch.randn(1, 3, 16, 16))
    tokens = made.rows([1, 2, 3, 4])
    changed = tokens.clone()
    changed[0, 3] = 9
    first, second = model.text(prefix, tokens), model.text(prefix, changed)
    assert torch.allclose(first[:, :3], second[:, :3])
    assert not torch.allclose(first[:, 3], second[:, 3])
    other = model.text(model.prefix(torch.randn(1, 3, 16, 16)), tokens)
    assert not torch.allclose(first[:, 0], other[:, 0])


def test_losses_are_in_float32_under_autocast(made: SimpleNamespace) -> None:
    for name in NAMES:
        objective, model = pair_of(name, made)
        inputs = made.sample_inputs(4)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = objective.embed(model, inputs)
        assert outputs[0].dtype == torch.float32
        exact = objective.loss(model, objective.embed(model, inputs), inputs, None).value
        assert torch.allclose(objective.loss(model, outputs, inputs, None).value, exact, rtol=0.02)


def test_the_language_model_has_the_papers_63_million_parameters() -> None:
    with torch.device("meta"):
        model = Captioner(spec_of("RN50"))
    assert sum(part.numel() for part in model.text.parameters()) == pytest.approx(63e6, rel=0.01)
