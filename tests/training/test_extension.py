"""A stranger's objective, model and evaluator, in a folder outside the repository, named in the configuration."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from openwit.schemas.common.errors import OpenWITError, RecipeError
from openwit.schemas.common.settings import parse_settings
from openwit.training.checkpoints.load import load_model
from openwit.training.config import TrainConfig
from openwit.training.config.zoo import InputSpec
from openwit.training.models.build import CustomTowers
from openwit.training.run.logs import read_metrics
from openwit.training.run.loop import fit
from openwit.training.run.outcome import Outcome

STRANGER = '''
import torch
from openwit.training.api import EmbeddingObjective, Evaluation, Loss, gathered


class Margin(EmbeddingObjective):
    """A hinge on the hardest wrong text of each image."""

    def __init__(self, *, margin=0.2):
        self.margin = margin

    def loss(self, model, outputs, inputs, group):
        (images, texts), (all_images, all_texts) = outputs, gathered(outputs, group)[0]
        scores = images @ all_texts.T * model.logit_scale.exp() / 10
        wrong = scores.masked_fill(torch.eye(len(images), len(all_texts)).bool(), -1e4).amax(dim=1)
        return Loss((self.margin + wrong - scores.diagonal()).clamp(min=0).sum() / len(all_texts), {})


class Flat(torch.nn.Module):
    def __init__(self, image_size, vocabulary, width):
        super().__init__()
        self.image = torch.nn.Linear(3 * image_size**2, width)
        self.words = torch.nn.EmbeddingBag(vocabulary, width)

    def encode_image(self, images):
        return self.image(images.flatten(1))

    def encode_text(self, tokens):
        return self.words(tokens)


class Temperature:
    def __init__(self, context, *, unit=1.0):
        self.unit = unit

    def __call__(self, model, position):
        value = float(model.logit_scale.exp()) / self.unit
        return Evaluation({"temperature": value}, f"step {position.step}: temperature {value:.1f}")


class Nothing:
    pass
'''


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "stranger.py").write_text(STRANGER)
    monkeypatch.syspath_prepend(folder)
    yield folder
    sys.modules.pop("stranger", None)


def train(raw: dict[str, Any]) -> Outcome:
    return fit(parse_settings(raw, TrainConfig, "config"))


@pytest.mark.usefixtures("stranger")
def test_an_objective(configure: Any) -> None:
    raw = configure(
        objective={"name": "stranger.Margin", "margin": 0.5},
        schedule={"duration": "10 steps"},
        memory={"chunk": 10},
    )
    outcome = train(raw)
    losses = [float(str(record["loss"])) for record in read_metrics(Path(raw["run"])) if record["kind"] == "train"]
    assert losses[-1] < losses[0]
    assert outcome.recall is not None
    assert "text_to_image_recall_at_1" in outcome.evaluations["retrieval"].metrics
    with pytest.raises(RecipeError, match=r"objective\.margin = 0\.5, but now objective\.margin is 0\.4"):
        train({**raw, "objective": {"name": "stranger.Margin", "margin": 0.4}})


@pytest.mark.usefixtures("stranger")
def test_a_model_with_our_losses_chunks_and_checkpoints(configure: Any, tmp_path: Path) -> None:
    model = {"name": "stranger:Flat", "image_size": 16, "context_length": 12, "width": 24}
    runs = []
    for name, chunk in (("whole", None), ("chunks", 7)):
        raw = configure(run=str(tmp_path / name), model=model, memory={"chunk": chunk}, ema={"decay": 0.9})
        raw["schedule"] = {"duration": "6 steps"}
        assert train(raw).status == "finished"
        runs.append(load_model(raw["run"]))
    torch.testing.assert_close(runs[0].model.state_dict(), runs[1].model.state_dict(), rtol=1e-3, atol=1e-5)
    assert train(raw).status == "already finished"
    embedded = runs[0].encode_text(["a red box", "a blue box"])
    assert embedded.shape == (2, 24)
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(2))
    assert load_model(raw["run"], weights="ema").model.towers.image.weight.shape == (24, 3 * 16**2)
    with pytest.raises(RecipeError, match=r"speed.compile needs the blocks of model.name 'stranger:Flat'"):
        train(configure(run=str(tmp_path / "other"), model=model, speed={"compile": True}))


@pytest.mark.usefixtures("stranger")
def test_evaluators_with_their_own_interval(configure: Any) -> None:
    listed = [
        {"name": "stranger.Temperature", "unit": 10, "every": "2 steps"},
        {"name": "retrieval", "split": "val", "limit": 20},
        {"name": "retrieval", "split": "val", "limit": 10},
    ]
    raw = configure(eval={"evaluators": listed}, schedule={"duration": "5 steps"})
    outcome = train(raw)
    records = [record for record in read_metrics(Path(raw["run"])) if record["kind"] == "eval"]
    assert [record["step"] for record in records if "temperature" in record] == [2, 4, 5]
    assert [record["step"] for record in records if "text_to_image_recall_at_1" in record] == [5]
    assert sum("text_to_image_recall_at_1_2" in record for record in records) == 1
    assert outcome.evaluations["stranger.Temperature"].metrics["temperature"] == pytest.approx(1.43, rel=0.1)
    assert list(outcome.evaluations) == ["stranger.Temperature", "retrieval", "retrieval_2"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"objective": {"name": "stranger.Magrin"}}, "objective.name: 'stranger.Magrin': module 'stranger' has no"),
        ({"objective": {"name": "strnger.Margin"}}, "objective.name: 'strnger.Margin': there is no module 'strnger'"),
        ({"objective": {"name": "stranger.Margin", "marign": 1}}, "unexpected keyword argument 'marign'"),
        ({"objective": {"name": "stranger.Nothing"}}, "'stranger.Nothing' has no embeds: derive it from"),
        ({"model": {"name": "stranger.Nothing"}}, "returned a Nothing, which is not an nn.Module with encode_image"),
        ({"model": {"name": "stranger.Flat"}}, "missing a required argument: 'width'"),
        ({"model": {"name": "stranger.Flat", "width": "x"}}, "model.name: 'stranger.Flat' cannot be built: TypeError"),
        (
            {"model": {"name": "stranger.Flat", "width": 8}, "objective": {"name": "captioning"}},
            "its own model",
        ),
        ({"eval": {"evaluators": ["stranger.Nothing"]}}, "eval.evaluators.0 (stranger.Nothing): "),
        ({"eval": {"evaluators": ["recall"]}}, "name 'recall' must be one of retrieval, zero_shot"),
        ({"eval": {"evaluators": ["retrieval"], "limit": 5}}, "with evaluators, put limit into an entry"),
        (
            {"eval": {"evaluators": [{"name": "retrieval", "split": "train"}]}},
            "0 (retrieval): 'train' is the split",
        ),
    ],
)
@pytest.mark.usefixtures("stranger")
def test_a_mistake_is_one_sentence(configure: Any, change: dict[str, Any], words: str) -> None:
    with pytest.raises(OpenWITError) as caught:
        train(configure(**change))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("images", "texts", "message"),
    [
        ((2, 4), (2, 5), "returned 5 dimensions, the other method 4"),
        ((1, 4), (2, 4), r"encode_image returned \(1, 4\) for 2 inputs"),
        ((2, 4, 1), (2, 4), r"encode_image returned \(2, 4, 1\) for 2 inputs"),
        ((2, 4), None, "encode_text returned NoneType"),
    ],
)
def test_towers_whose_embeddings_do_not_fit_are_one_sentence(images: Any, texts: Any, message: str) -> None:
    class Towers(torch.nn.Module):
        def encode_image(self, _: torch.Tensor) -> Any:
            return torch.ones(images)

        def encode_text(self, _: torch.Tensor) -> Any:
            return None if texts is None else torch.ones(texts)

    model: Any = CustomTowers(Towers(), InputSpec(image_size=8, context_length=4, vocabulary=10))
    with pytest.raises(OpenWITError, match=message):
        model.encode_image(torch.zeros(2, 3, 8, 8))
        model.encode_text(torch.zeros(2, 4, dtype=torch.long))
