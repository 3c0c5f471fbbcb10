import io
import random
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

from openwit.schemas.common.errors import OpenWITError
from openwit.training.config import ModelSettings, objective_settings
from openwit.training.config.zoo import ClipSpec, InputSpec, TextSpec, VisionSpec
from openwit.training.data.transforms import evaluation_transform, normalise
from openwit.training.evaluation.classification_data import ClassificationSet, open_classification
from openwit.training.evaluation.classification_readers import LabelledData
from openwit.training.evaluation.embed import Embedder
from openwit.training.evaluation.prompts import CIFAR10, PAPER
from openwit.training.evaluation.zero_shot import (
    Answers,
    HeadScorer,
    ObjectiveScorer,
    class_head,
    classify,
    ranked,
)
from openwit.training.evaluation.zero_shot_result import summarise
from openwit.training.objectives.base import Inputs
from openwit.training.objectives.registry import make_model, make_objective
from openwit.training.tokenizer.bpe import clip_tokenizer

CPU = torch.device("cpu")
SIXTEEN = InputSpec(image_size=16, context_length=16)
PLAIN = torch.autocast("cpu", enabled=False)
COLOURS = {"red": (200, 30, 30), "green": (30, 180, 40), "blue": (30, 50, 210)}


def tiny_model(objective: str = "contrastive") -> Any:
    torch.manual_seed(0)
    vision = VisionSpec(image_size=16, patch_size=8, width=32, layers=1, heads=2)
    spec = ClipSpec(embed_dim=16, vision=vision, text=TextSpec(context_length=16, width=32, layers=1, heads=2))
    return make_model(ModelSettings(spec=spec), objective_settings(objective))  # type: ignore[arg-type]


def write_colours(path: Path, factory: SimpleNamespace, count: int = 12, broken: Sequence[int] = ()) -> Path:
    rng = np.random.default_rng(0)
    names = [list(COLOURS)[number % 3] for number in range(count)]
    images = []
    for number, name in enumerate(names):
        noisy = np.clip(np.array(COLOURS[name]) + rng.normal(0, 6, (20, 24, 3)), 0, 255).astype(np.uint8)
        images.append(b"no image" if number in broken else factory.jpeg(noisy))
    pq.write_table(pa.table({"image": images, "label": names}), path)
    return path


def embed_by_letters(texts: Sequence[str]) -> torch.Tensor:
    """Any map of texts to unit vectors."""
    rows = [[sum(map(ord, text)) % 17, len(text), *(text.count(letter) for letter in "aeiostr")] for text in texts]
    return F.normalize(torch.tensor(rows, dtype=torch.float32), dim=1)


def test_the_head_is_what_the_paper_says() -> None:
    classes = ["cat", "dog", "frog"]
    head = class_head(embed_by_letters, classes, CIFAR10)
    for number, name in enumerate(classes):
        vectors = embed_by_letters([template.replace("{label}", name) for template in CIFAR10]).numpy()
        mean = sum(vector / np.linalg.norm(vector) for vector in vectors) / len(vectors)
        np.testing.assert_allclose(head[number].numpy(), mean / np.linalg.norm(mean), atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.permutations(CIFAR10), st.lists(st.text("abcdefg ", min_size=1), min_size=1, max_size=5))
def test_the_order_of_templates_does_not_matter(templates: list[str], classes: list[str]) -> None:
    one, other = (class_head(embed_by_letters, classes, each) for each in (CIFAR10, templates))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-7)
    torch.testing.assert_close(class_head(embed_by_letters, classes, templates * 2), other, rtol=0, atol=1e-7)


def test_an_ensemble_of_one_is_the_template_alone() -> None:
    model = tiny_model()
    embedder = Embedder(model, clip_tokenizer(), device=CPU, autocast=PLAIN)
    head = class_head(embedder.texts, ["cat", "dog"], PAPER)
    torch.testing.assert_close(head, embedder.texts(["A photo of a cat.", "A photo of a dog."]))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_ranks_are_counted_with_wrong_classes_first(data: st.DataObject) -> None:
    classes, count = data.draw(st.integers(2, 8)), data.draw(st.integers(1, 6))
    values = st.sampled_from([0.0, 1.0, 2.0, -1.0, float("nan"), float("-inf")])
    table = data.draw(st.lists(st.lists(values, min_size=classes, max_size=classes), min_size=count, max_size=count))
    labels = data.draw(st.lists(st.integers(0, classes - 1), min_size=count, max_size=count))
    ranks, predicted = ranked(torch.tensor(table), torch.tensor(labels))
    for row, label, rank, first in zip(table, labels, ranks.tolist(), predicted.tolist(), strict=True):
        others = [number for number in range(classes) if number != label]
        assert rank == sum(not row[number] < row[label] for number in others)
        assert (first == label) == (rank == 0)
        if rank and not any(np.isnan(row)):
            assert first == max(others, key=lambda number: (row[number], -number))


def test_a_collapsed_model_has_nothing_right() -> None:
    for value in (0.0, float("nan")):
        ranks, _ = ranked(torch.full((6, 7), value), torch.arange(6))
        result = summarise(Answers(np.arange(6), ranks.numpy(), np.zeros(6, np.int64), []), list("abcdefg"))
        assert result.top1.value == 0
        assert result.top5 is not None
        assert result.top5.value == 0


def test_figures_confusions_and_classes() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 5])
    predicted = np.array([0, 1, 1, 1, 1, 3, 1, 3, 2, 0])
    ranks = np.array([0, 1, 4, 0, 0, 5, 1, 2, 0, 4])
    names = ["ant", "bee", "cow", "dog", "elk", "fox"]
    result = summarise(Answers(labels, ranks, predicted, ["broken"]), names)
    assert result.images == 10
    assert result.top1.value == pytest.approx(0.4)
    assert result.top1.chance == pytest.approx(1 / 6)
    assert result.top5 is not None
    assert result.top5.value == pytest.approx(0.9)
    assert result.mean_per_class.value == pytest.approx((1 / 3 + 1 + 1 / 4 + 0) / 4)
    assert result.mean_per_class.low <= result.mean_per_class.value <= result.mean_per_class.high
    found = [(each.true, each.predicted, each.images) for each in result.confusions]
    assert found == [("ant", "bee", 2), ("cow", "dog", 2), ("cow", "bee", 1), ("fox", "ant", 1)]
    assert [each.images for each in result.classes] == [3, 2, 4, 0, 0, 1]
    assert result.classes[2].taken_for == ("dog", 2)
    assert result.classes[3].accuracy is None
    assert result.classes[1].taken_for is None
    assert summarise(Answers(labels, ranks, predicted, []), names) == summarise(
        Answers(labels, ranks, predicted, []), names
    )
    assert set(result.metrics()) == {"zero_shot_top1", "zero_shot_top5", "zero_shot_mean_per_class"}
    few = summarise(Answers(labels[:9], ranks[:9], predicted[:9], []), names[:4])
    assert few.top5 is None
    assert "zero_shot_top5" not in few.metrics()


def train(model: Any, data: ClassificationSet, objective_name: str) -> None:
    """Fits the pictures and their names by heart."""
    objective = make_objective(objective_settings(objective_name))  # type: ignore[arg-type]
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    pixels = [evaluation_transform(16, fast=False)(data.sample(n).image, random.Random(0)) for n in range(3)]
    texts = [f"A photo of a {data.classes[data.sample(n).label]}." for n in range(3)]
    inputs = Inputs(normalise(torch.from_numpy(np.stack(pixels))), torch.from_numpy(clip_tokenizer()(texts, 16)))
    for _ in range(60):
        optimiser.zero_grad()
        objective.loss(model, objective.embed(model, inputs), inputs, None).value.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        objective.after_step(model)


@pytest.mark.parametrize("objective_name", ["contrastive", "sigmoid", "bag_of_words", "captioning"])
def test_three_colours_are_learned_and_told_apart(
    objective_name: str, factory: SimpleNamespace, tmp_path: Path
) -> None:
    data = open_classification(LabelledData(write_colours(tmp_path / "a.parquet", factory)))
    assert data.classes == ("blue", "green", "red")
    model = tiny_model(objective_name).train()
    train(model, data, objective_name)
    objective = make_objective(objective_settings(objective_name))  # type: ignore[arg-type]
    rest: dict[str, Any] = {"device": CPU, "autocast": PLAIN, "classes": data.classes, "templates": PAPER}
    scorers: list[Any] = [ObjectiveScorer(model, objective, clip_tokenizer(), **rest)]
    if objective_name in ("contrastive", "sigmoid"):
        scorers.append(HeadScorer(Embedder(model, clip_tokenizer(), device=CPU, autocast=PLAIN), data.classes, PAPER))
    reports: list[tuple[int, int]] = []
    for scorer in scorers:
        answers = classify(
            data, scorer, inputs=SIXTEEN, batch_size=5, progress=lambda done, whole: reports.append((done, whole))
        )
        result = summarise(answers, data.classes)
        assert (result.images, result.top1.value) == (12, 1.0), result
        assert reports[-1] == (12, 12)
        assert result.confusions == []
    assert model.training


def test_with_one_template_head_and_objective_agree(factory: SimpleNamespace, tmp_path: Path) -> None:
    data = open_classification(LabelledData(write_colours(tmp_path / "a.parquet", factory)))
    model = tiny_model()
    pixels = np.stack([evaluation_transform(16, fast=False)(data.sample(n).image, random.Random(0)) for n in range(4)])
    objective = make_objective(objective_settings())
    head = HeadScorer(Embedder(model, clip_tokenizer(), device=CPU, autocast=PLAIN), data.classes, PAPER)
    plain = ObjectiveScorer(
        model, objective, clip_tokenizer(), device=CPU, autocast=PLAIN, classes=data.classes, templates=PAPER
    )
    torch.testing.assert_close(head(pixels), plain(pixels), rtol=1e-4, atol=1e-5)


def test_templates_are_averaged_for_other_objectives(factory: SimpleNamespace, tmp_path: Path) -> None:
    data = open_classification(LabelledData(write_colours(tmp_path / "a.parquet", factory)))
    pixels = np.stack([evaluation_transform(16, fast=False)(data.sample(n).image, random.Random(0)) for n in range(4)])
    for name in ("bag_of_words", "captioning"):
        model, objective = tiny_model(name), make_objective(objective_settings(name))  # type: ignore[arg-type]
        common = (model, objective, clip_tokenizer())
        rest: dict[str, Any] = {"device": CPU, "autocast": PLAIN, "classes": data.classes}
        both = ObjectiveScorer(*common, **rest, templates=CIFAR10[:2])(pixels)
        alone = [ObjectiveScorer(*common, **rest, templates=(template,))(pixels) for template in CIFAR10[:2]]
        torch.testing.assert_close(both, (alone[0] + alone[1]) / 2, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("width", "height"), [(32, 32), (40, 60), (97, 41), (13, 200)])
def test_images_are_prepared_as_openai_prepares_them(width: int, height: int, factory: SimpleNamespace) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    encoded = factory.jpeg(pixels)
    side = 24
    with Image.open(io.BytesIO(encoded)) as image:
        # Resize(side, BICUBIC), CenterCrop(side) of torchvision, written out.
        long = int(side * max(width, height) / min(width, height))
        size = (side, long) if width <= height else (long, side)
        left, top = (round((length - side) / 2) for length in size)
        expected = image.resize(size, Image.Resampling.BICUBIC).crop((left, top, left + side, top + side))
    found = evaluation_transform(side, fast=False)(encoded, random.Random(0)).astype(int)
    difference = np.abs(found - np.asarray(expected.convert("RGB")))
    # A crop while resizing rounds its edges elsewhere than one after it.
    assert difference.max() <= 2
    assert (difference > 0).mean() < 0.01


def test_damaged_images_are_counted_and_named(factory: SimpleNamespace, tmp_path: Path) -> None:
    whole = open_classification(LabelledData(write_colours(tmp_path / "a.parquet", factory)))
    damaged = open_classification(LabelledData(write_colours(tmp_path / "b.parquet", factory, broken=[0, 1, 2, 7])))
    scorer = HeadScorer(Embedder(tiny_model(), clip_tokenizer(), device=CPU, autocast=PLAIN), whole.classes, PAPER)
    answers = classify(damaged, scorer, inputs=SIXTEEN, batch_size=3)
    assert answers.unreadable == ["row 0", "row 1", "row 2", "row 7"]
    kept = [number for number in range(12) if number not in (0, 1, 2, 7)]
    assert answers.ranks.tolist() == classify(whole, scorer, inputs=SIXTEEN, batch_size=12).ranks[kept].tolist()
    none = open_classification(LabelledData(write_colours(tmp_path / "c.parquet", factory, broken=range(12))))
    with pytest.raises(OpenWITError, match="none of the 12 images of c can be read"):
        classify(none, scorer, inputs=SIXTEEN, batch_size=3)
