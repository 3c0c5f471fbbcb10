"""Features before the projection, of every kind of tower."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from openwit.schemas.common.errors import RecipeError
from openwit.training.config import ModelSettings, objective_settings
from openwit.training.config.choices import Layer
from openwit.training.config.zoo import ClipSpec, InputSpec, ResNetSpec, TextSpec, VisionSpec
from openwit.training.evaluation.features.layers import image_features
from openwit.training.models.build import CustomTowers
from openwit.training.models.open_clip_features import open_clip_features
from openwit.training.objectives.registry import make_model

TEXT = TextSpec(context_length=16, width=32, layers=1, heads=2)
VIT = {"image_size": 16, "patch_size": 8, "width": 32, "layers": 1, "heads": 2}


def made(vision: Any, objective: str = "contrastive", dim: int = 24) -> Any:
    torch.manual_seed(0)
    spec = ClipSpec(embed_dim=dim, vision=vision, text=TEXT)
    return make_model(ModelSettings(spec=spec), objective_settings(objective)).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("objective", ["contrastive", "bag_of_words", "captioning", "contrastive_captioning"])
@pytest.mark.parametrize("pool", ["class", "mean", "attention"])
def test_a_transformers_features_lead_to_its_embedding(objective: str, pool: str) -> None:
    model = made(VisionSpec(**VIT, pool=pool), objective)
    images = torch.randn(3, 3, 16, 16)
    features = image_features(model, images)
    assert features.shape == (3, 32)
    projected = features @ model.visual.proj
    if hasattr(model, "encode_image"):
        projected = nn.functional.normalize(projected, dim=1)
    torch.testing.assert_close(projected, image_features(model, images, Layer.PROJECTED))


def test_a_class_token_is_taken_after_the_last_normalisation() -> None:
    model = made(VisionSpec(**VIT))
    seen: list[Tensor] = []
    model.visual.ln_post.register_forward_hook(lambda _, __, found: seen.append(found))
    features = image_features(model, torch.randn(2, 3, 16, 16))
    torch.testing.assert_close(features, seen[0])


def test_without_a_projection_the_pooled_vector_is_both() -> None:
    model = made(VisionSpec(**VIT, pool="attention", projection=False), dim=32)
    images = torch.randn(2, 3, 16, 16)
    features = image_features(model, images)
    torch.testing.assert_close(
        nn.functional.normalize(features, dim=1), image_features(model, images, Layer.PROJECTED)
    )


def test_a_resnets_features_are_the_attention_pools_before_its_last_map() -> None:
    model = made(ResNetSpec(image_size=32, layers=(1, 1, 1, 1), width=8))
    images = torch.randn(2, 3, 32, 32)
    features = image_features(model, images)
    assert features.shape == (2, 8 * 32)
    torch.testing.assert_close(model.visual.attnpool.c_proj(features), model.visual(images))


class Towers(nn.Module):
    def encode_image(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))

    def encode_text(self, tokens: Tensor) -> Tensor:
        return tokens[:, :3].float()


class Probed(Towers):
    def encode_image_features(self, images: Tensor) -> Tensor:
        return images.flatten(1)


class Wrong(Towers):
    def encode_image_features(self, images: Tensor) -> Tensor:
        return images


def test_your_own_model_says_what_its_features_are() -> None:
    inputs, images = InputSpec(image_size=4, context_length=8), torch.randn(2, 3, 4, 4)
    assert image_features(CustomTowers(Probed(), inputs), images).shape == (2, 48)
    with pytest.raises(RecipeError, match="give it a method encode_image_features"):
        image_features(CustomTowers(Towers(), inputs), images)
    assert image_features(CustomTowers(Towers(), inputs), images, Layer.PROJECTED).shape == (2, 3)
    with pytest.raises(RecipeError, match=r"must return \(2, features\), not \(2, 3, 4, 4\)"):
        image_features(CustomTowers(Wrong(), inputs), images)


class _Trunk(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


class _Tower(nn.Module):
    """As open_clip's TimmModel."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = _Trunk()
        self.head = nn.Sequential()
        self.head.add_module("drop", nn.Dropout(0.5))
        self.head.add_module("proj", nn.Linear(12, 3))


def test_a_tower_of_timm_without_its_head() -> None:
    model = nn.Module()
    model.visual = _Tower().eval()
    images = torch.randn(2, 3, 2, 2)
    torch.testing.assert_close(open_clip_features(model, images), images.flatten(1))
    model.visual = nn.Linear(2, 2)
    with pytest.raises(RecipeError, match="the image tower Linear of open_clip"):
        open_clip_features(model, images)
