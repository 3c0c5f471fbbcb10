import io
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from support.pictures import picture

from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.settings import parse_settings
from openwit.training.config import DataSettings, ModelSettings, TrainConfig
from openwit.training.config.data import ColourJitter
from openwit.training.config.images import OPENAI_IMAGES, ImageSpec
from openwit.training.data.augment import finish_of, jittered, turned_hue
from openwit.training.data.loader import BatchMaker, training_transform
from openwit.training.data.sampling import BatchPlan, pick_by_source, sample_rng
from openwit.training.data.sharded import ShardedDataset
from openwit.training.data.transforms import Preprocess, evaluation_transform, normalise
from openwit.training.evaluation.embed import Embedder
from openwit.training.run.loop import fit
from openwit.training.tokenizer.bpe import clip_tokenizer

JPEG = picture(1, (90, 60))
IMAGE = Image.open(io.BytesIO(JPEG)).convert("RGB")


def data(**keys: Any) -> DataSettings:
    return DataSettings.model_validate({"dataset": "x", "decode": "exact", **keys})


def pixels(settings: DataSettings, key: str = "k", epoch: int = 0, images: ImageSpec = OPENAI_IMAGES) -> np.ndarray:
    return training_transform(settings, 32, images)(JPEG, sample_rng(0, epoch, key))


def test_jitter_is_of_sample_and_epoch_and_leaves_the_crop_alone() -> None:
    plain, strong = data(), data(colour_jitter={"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1})
    assert np.array_equal(pixels(strong), pixels(strong))
    assert not np.array_equal(pixels(strong), pixels(plain))
    assert not np.array_equal(pixels(strong, epoch=1), pixels(strong))
    bright = data(colour_jitter={"brightness": 0.4})
    rng = sample_rng(0, 0, "k")
    square = training_transform(plain, 32)(JPEG, rng)
    factor = 0.6 + 0.8 * rng.random()
    assert np.array_equal(pixels(bright), np.asarray(ImageEnhance.Brightness(Image.fromarray(square)).enhance(factor)))


def test_changes_are_those_of_torchvision() -> None:
    # adjust_hue on PIL images, written out.
    hue, saturation, value = IMAGE.convert("HSV").split()
    turned = np.array(hue)
    turned += np.array(int(-0.3 * 255)).astype(np.uint8)
    expected = Image.merge("HSV", (Image.fromarray(turned), saturation, value)).convert("RGB")
    assert turned_hue(IMAGE, -0.3).tobytes() == expected.tobytes()
    same = jittered(ColourJitter(), IMAGE, random.Random(0))
    assert same.tobytes() == IMAGE.tobytes()
    half = ColourJitter(brightness=0.5, probability=0.5)
    changed = sum(jittered(half, IMAGE, random.Random(seed)) is not IMAGE for seed in range(200))
    assert 70 < changed < 130
    grey = pixels(data(grayscale=1.0))
    assert np.array_equal(grey[..., 0], grey[..., 2])


def invert(image: Image.Image, rng: random.Random, *, share: float = 1.0) -> Image.Image:
    return Image.eval(image, lambda value: 255 - value) if rng.random() < share else image


class Shift:
    def __init__(self, by: int) -> None:
        self.by = by

    def __call__(self, image: Image.Image, _rng: random.Random) -> np.ndarray:
        return np.roll(np.asarray(image), self.by, axis=1)


def odd(image: Image.Image, _rng: random.Random) -> Image.Image:
    return image.resize((3, 3))


def failing(_image: Image.Image, _rng: random.Random) -> Image.Image:
    raise ValueError("no")


def test_functions_of_ones_own_come_last() -> None:
    here = __name__
    found = pixels(data(augment=[f"{here}.invert", {"name": f"{here}.Shift", "by": 2}]))
    assert np.array_equal(found, np.roll(255 - pixels(data()), 2, axis=1))
    assert finish_of(data()) is None
    with pytest.raises(RecipeError, match=r"data\.augment\.0: .*odd' returned something else than an RGB image of 32"):
        pixels(data(augment=[f"{here}.odd"]))
    with pytest.raises(RecipeError, match=r"data\.augment\.0.*nothing"):
        finish_of(data(augment=[f"{here}.nothing"]))
    with pytest.raises(RecipeError, match="cannot be called with"):
        finish_of(data(augment=[{"name": f"{here}.invert", "shares": 1}]))


def test_an_error_of_ones_own_function_is_no_unreadable_image(dataset: Path) -> None:
    split = ShardedDataset(dataset, "train")
    maker = BatchMaker(
        split,
        BatchPlan(len(split), 4, 0, None),
        settings=data(augment=[f"{__name__}.failing"]),
        inputs=ModelSettings().inputs,
        tokenizer=clip_tokenizer(),
        seed=0,
    )
    with pytest.raises(RecipeError, match="failing' failed: ValueError: no"):
        maker.make(0)


@pytest.mark.parametrize("name", ["bilinear", "lanczos", "nearest"])
def test_the_whole_image_becomes_a_square(name: str) -> None:
    spec = ImageSpec.model_validate({"resize": "squash", "interpolation": name})
    expected = np.asarray(IMAGE.resize((32, 32), getattr(Image.Resampling, name.upper())))
    assert np.array_equal(evaluation_transform(32, fast=True, images=spec)(JPEG, random.Random(0)), expected) or (
        name != "nearest"  # the decoder reduces
    )
    assert np.array_equal(evaluation_transform(32, fast=False, images=spec)(JPEG, random.Random(0)), expected)
    assert np.array_equal(pixels(data(), images=spec), expected)


def test_the_long_side_fits_with_black_around() -> None:
    spec = ImageSpec(resize="longest")
    found = evaluation_transform(30, fast=True, images=spec)(JPEG, random.Random(0))
    exact = evaluation_transform(30, fast=False, images=spec)(JPEG, random.Random(0))
    assert not exact[:5].any()
    assert not exact[25:].any()
    assert np.array_equal(exact[5:25], np.asarray(IMAGE.resize((30, 20), Image.Resampling.BICUBIC)))
    assert not found[:5].any()
    crop = training_transform(data(crop="random_resized_crop"), 30, spec)(JPEG, random.Random(0))
    assert crop[:5].any()


def test_preprocessing_has_the_models_statistics() -> None:
    spec = ImageSpec(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    square = evaluation_transform(16, fast=False)(JPEG, random.Random(0))
    expected = (torch.from_numpy(square.copy()).permute(2, 0, 1) / 255 - torch.tensor(spec.mean)[:, None, None]) / (
        torch.tensor(spec.std)[:, None, None]
    )
    assert torch.allclose(Preprocess(16, spec)(JPEG), expected, atol=1e-5)
    assert not torch.allclose(Preprocess(16)(JPEG), expected, atol=1e-2)
    assert torch.equal(normalise(torch.from_numpy(square.copy())[None], images=spec)[0], Preprocess(16, spec)(JPEG))


def test_run_evaluators_and_loaded_model_share_the_preprocessing(configure: Any, monkeypatch: Any) -> None:
    from openwit.training.checkpoints.load import load_model

    raw = configure(schedule={"duration": "1 steps"})
    raw["model"] = {**raw["model"], "images": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "resize": "squash"}}
    seen: list[Any] = []
    monkeypatch.setattr("openwit.training.run.trainer.normalise", lambda *a, **k: seen.append(k) or normalise(*a, **k))
    fit(parse_settings(raw, TrainConfig, "test"))
    spec = ImageSpec(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), resize="squash")
    assert [each["images"] for each in seen] == [spec]
    model = load_model(Path(raw["run"]))
    assert model.preprocess == Preprocess(32, spec)
    cpu = torch.device("cpu")
    embedder = Embedder(model.model, model.tokenizer, device=cpu, autocast=torch.autocast("cpu", enabled=False))
    square = np.asarray(IMAGE.resize((32, 32), Image.Resampling.BICUBIC))
    assert torch.allclose(embedder.images(square[None].copy()), model.encode_image(IMAGE), atol=1e-6)


def test_texts_are_drawn_by_the_weight_of_their_source() -> None:
    texts, sources = ("a", "b", "c", "d"), ("alt", "alt", "title", "table")

    def drawn(weights: dict[str, float], others: float = 0.0, of: tuple[str, ...] = sources) -> Counter[str]:
        rngs = (sample_rng(1, epoch, "k") for epoch in range(2000))
        return Counter(pick_by_source(texts, of, weights, others, rng) for rng in rngs)

    found = drawn({"alt": 1, "title": 2})
    assert found == drawn({"alt": 1, "title": 2})
    assert 1250 < found["c"] < 1420
    assert abs(found["a"] - found["b"]) < 100
    assert found["d"] == 0
    assert 850 < drawn({"alt": 1, "title": 1}, others=2)["d"] < 1150
    assert set(drawn({"link": 1})) == set(texts)
    assert set(drawn({"alt": 1}, of=())) == set(texts)


def test_stored_sources_reach_the_draw() -> None:
    from openwit.training.data.sample_texts import fast_words

    assert fast_words(b'{"texts": ["x", "y"], "text_sources": ["alt", null]}') == (("x", "y"), ("alt", ""))
    assert fast_words(b'{"texts": ["x", "y"], "text_sources": ["alt"]}') == (("x", "y"), ())
    assert fast_words(b'{"caption": "x", "text_sources": 3}') == (("x",), ())
    weighted = data(captions={"weights": {"alt": 1}})
    assert weighted.captions != "random"
    with pytest.raises(ValueError, match="at least one source"):
        data(captions={"weights": {"alt": 0}})
    assert data(captions="first").captions == "first"
