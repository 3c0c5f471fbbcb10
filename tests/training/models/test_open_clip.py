"""Our models against open_clip's, by way of the files we save. Skipped where open_clip is not installed."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from support.open_clip import imported

from openwit.training.config.zoo import spec_of
from openwit.training.models.clip import Clip
from openwit.training.models.weights import into_model, model_from_weights, save_safetensors, settings_of, to_open_clip

pytestmark = pytest.mark.filterwarnings("ignore")
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def open_clip() -> Iterator[ModuleType]:
    with imported() as module:
        yield module


@pytest.mark.parametrize(("name", "theirs"), [("RN50", "RN50-quickgelu"), ("ViT-B/32", "ViT-B-32-quickgelu")])
def test_open_clip_loads_what_we_save_and_answers_the_same(
    small: Any, open_clip: ModuleType, tmp_path: Path, name: str, theirs: str
) -> None:
    spec = spec_of(name)
    ours = small.scrambled(spec)
    path = tmp_path / "open_clip_model.safetensors"
    save_safetensors(ours, path)
    model = open_clip.model.CLIP(**open_clip.get_model_config(theirs)).eval()
    model.load_state_dict(open_clip.factory.load_state_dict(str(path)), strict=True)
    images = small.pictures(2, 224)
    tokens = small.tokens(3, 77, 49408)
    with torch.inference_mode():
        for mine, other in (
            (ours.encode_image(images), model.encode_image(images, normalize=True)),
            (ours.encode_text(tokens), model.encode_text(tokens, normalize=True)),
            (ours.visual(images), model.encode_image(images)),
            (ours.text(tokens), model.encode_text(tokens)),
        ):
            torch.testing.assert_close(mine, other, **TOLERANCE)
    state = model.state_dict()
    assert settings_of(state, quick_gelu=True) == spec
    assert all(torch.equal(state[key], tensor) for key, tensor in to_open_clip(ours).items())


def vision_and_text(quick_gelu: bool) -> dict[str, Any]:
    return {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
        "text_cfg": {"context_length": 12, "vocab_size": 100, "width": 64, "heads": 1, "layers": 2},
        "quick_gelu": quick_gelu,
    }


@pytest.mark.parametrize("quick_gelu", [False, True])
@pytest.mark.parametrize("kind", ["CLIP", "CustomTextCLIP"])
def test_both_of_open_clips_layouts_load(
    small: Any, open_clip: ModuleType, tmp_path: Path, kind: str, quick_gelu: bool
) -> None:
    torch.manual_seed(0)
    theirs = getattr(open_clip.model, kind)(**vision_and_text(quick_gelu)).eval()
    path = tmp_path / "epoch_1.pt"
    torch.save({"epoch": 1, "name": "run", "state_dict": theirs.state_dict()}, path)
    ours, report = model_from_weights(path, quick_gelu=quick_gelu)
    assert report.tensors == len(theirs.state_dict())
    images, tokens = torch.randn(3, 3, 32, 32), small.tokens(3, 12, 100)
    with torch.inference_mode():
        torch.testing.assert_close(ours.visual(images), theirs.encode_image(images), **TOLERANCE)
        torch.testing.assert_close(ours.text(tokens), theirs.encode_text(tokens), **TOLERANCE)


def test_a_position_embedding_is_resized_as_open_clip_does(open_clip: ModuleType) -> None:
    torch.manual_seed(0)
    settings = vision_and_text(quick_gelu=False)
    state = open_clip.model.CLIP(**settings).state_dict()
    larger = {**settings, "vision_cfg": {**settings["vision_cfg"], "image_size": 72}}
    theirs = open_clip.model.CLIP(**larger)
    resized = dict(state)
    open_clip.model.resize_pos_embed(resized, theirs)
    spec = settings_of(state)
    ours = Clip(spec.model_copy(update={"vision": spec.vision.model_copy(update={"image_size": 72})}))
    assert "from 4 x 4 positions to 9 x 9" in into_model(ours, state).notes[0]
    torch.testing.assert_close(
        ours.state_dict()["visual.positional_embedding"], resized["visual.positional_embedding"], rtol=0, atol=0
    )
