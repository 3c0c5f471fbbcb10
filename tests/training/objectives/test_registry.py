from types import SimpleNamespace

import pytest
import torch

from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.common.settings import Settings, parse_settings
from openwit.training.config import ObjectiveSettings, objective_settings
from openwit.training.models.bag_of_words import BagOfWords
from openwit.training.models.captioner import Captioner
from openwit.training.models.clip import Clip
from openwit.training.models.contrastive_captioner import ContrastiveCaptioner
from openwit.training.objectives.registry import make_model, make_objective

MODELS = {
    "contrastive": Clip,
    "sigmoid": Clip,
    "bag_of_words": BagOfWords,
    "captioning": Captioner,
    "contrastive_captioning": ContrastiveCaptioner,
}


class Holder(Settings):
    objective: ObjectiveSettings


def parse(raw: dict[str, object]) -> object:
    return parse_settings({"objective": raw}, Holder, "config").objective


@pytest.mark.parametrize("name", MODELS)
def test_a_handful_of_samples_is_learned_and_scored_rightly(name: str, made: SimpleNamespace) -> None:
    """Loss falls, every parameter moves, and each image's own text comes first and the other way round."""
    torch.manual_seed(0)
    settings = objective_settings(name)
    objective, model = make_objective(settings), make_model(made.MODEL, settings)
    assert type(model) is MODELS[name]
    before = {key: part.detach().clone() for key, part in model.named_parameters()}
    inputs = made.sample_inputs(6)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0)
    values = []
    for _ in range(80):
        loss = objective.loss(model, objective.embed(model, inputs), inputs, None)
        values.append(float(loss.value))
        optimizer.zero_grad()
        loss.value.backward()
        optimizer.step()
        objective.after_step(model)
    assert values[-1] < 0.6 * values[0]
    for key, part in model.named_parameters():
        assert not torch.equal(part, before[key]), key
    model.eval()
    scores = objective.score(model, inputs.images, inputs.tokens)
    assert scores.shape == (6, 6)
    assert scores.argmax(dim=1).tolist() == list(range(6))
    assert scores.argmax(dim=0).tolist() == list(range(6))


@pytest.mark.parametrize("name", MODELS)
def test_stored_settings_are_read_again(name: str) -> None:
    settings = objective_settings(name)
    assert parse(settings.model_dump(mode="json")) == settings
    # Checkpoints of version 0.1.0 store every key of every objective.
    every = {"positives": "pair", "logit_scale": None, "logit_bias": None, "prefix_tokens": 4}
    assert parse({"name": name, **every}) == settings
    assert parse({"name": "contrastive", "positives": "same_text"})


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (
            {"name": "sigmoid", "positives": "same_text"},
            "positives is a setting of contrastive and contrastive_captioning, not of sigmoid",
        ),
        (
            {"name": "captioning", "logit_scale": 10},
            "logit_scale is a setting of contrastive, sigmoid and contrastive_captioning",
        ),
        ({"logit_bias": -10}, "logit_bias is a setting of sigmoid, not of contrastive"),
        ({"name": "bag_of_words", "prefix_tokens": 2}, "prefix_tokens is a setting of captioning"),
        ({"logit_scale": 200}, "logit_scale 200 is above 100"),
        ({"name": "contrastive", "captioning_weight": 1}, "captioning_weight is a setting of contrastive_captioning"),
        ({"name": "contrastive_captioning", "captioning_weight": 0}, "captioning_weight"),
        ({"name": "contrastive_captioning", "logit_scale": 101}, "at which contrastive_captioning keeps it"),
        ({"name": "siglip"}, "name"),
        ({"temperature": 1}, "temperature"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(raw: dict[str, object], said: str) -> None:
    with pytest.raises(OpenWITError) as caught:
        parse(raw)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_models_share_the_image_tower_to_the_last_tensor(made: SimpleNamespace) -> None:
    towers = []
    for name in MODELS:
        torch.manual_seed(3)
        as_it_is = {"image_pool": "model"} if name == "contrastive_captioning" else {}
        model = make_model(made.MODEL, objective_settings(name, **as_it_is))
        assert model.spec == made.SPEC
        towers.append(model.visual.state_dict())
    for tower in towers[1:]:
        assert list(tower) == list(towers[0])
        assert all(torch.equal(tower[key], towers[0][key]) for key in tower)
