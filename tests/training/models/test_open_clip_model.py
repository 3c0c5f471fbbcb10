"""Models of open_clip trained here. Skipped where open_clip is not installed."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from support import siglip
from support.open_clip import imported

from openwit.schemas.common.errors import RecipeError
from openwit.schemas.common.settings import parse_settings
from openwit.training.checkpoints.load import load_model
from openwit.training.config import CustomModelSettings, TrainConfig
from openwit.training.config.images import SIGLIP_IMAGES
from openwit.training.engine.gradcache import backward
from openwit.training.engine.runtime import make_autocast
from openwit.training.evaluation.features.layers import image_features
from openwit.training.models.build import described
from openwit.training.models.open_clip_model import open_clip_model
from openwit.training.objectives.base import Inputs
from openwit.training.objectives.contrastive import ContrastiveObjective
from openwit.training.run.loop import fit

pytestmark = pytest.mark.filterwarnings("ignore")
VISION = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
TEXT = {"context_length": 12, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1}
TINY = {
    "tiny-clip": {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": TEXT},
    "tiny-coca": {
        "embed_dim": 32,
        "vision_cfg": {**VISION, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        "text_cfg": {**TEXT, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {**TEXT, "attn_pooler_heads": 2},
        "custom_text": True,
    },
    "tiny-resnet": {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16, "patch_size": None},
        "text_cfg": TEXT,
    },
    "tiny-words": {
        "embed_dim": 24,
        "vision_cfg": VISION,
        "text_cfg": {
            **TEXT,
            "vocab_size": 100,
            "hf_tokenizer_name": "x/y",
            "tokenizer_kwargs": {"clean": "canonicalize"},
            "no_causal_mask": True,
            "pool_type": "last",
        },
    },
}


@pytest.fixture(scope="module")
def open_clip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    folder = tmp_path_factory.mktemp("configs")
    for name, config in TINY.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    with imported() as module:
        module.add_model_config(Path(folder))
        yield module


def settings(architecture: str, **changes: Any) -> CustomModelSettings:
    name = "openwit.training.models.open_clip_model.open_clip_model"
    sizes = {"image_size": 32, "context_length": 12, "vocabulary": 64}
    return CustomModelSettings.model_validate({"name": name, "architecture": architecture, **sizes, **changes})


@pytest.mark.usefixtures("open_clip")
@pytest.mark.parametrize("architecture", ["tiny-clip", "tiny-coca"])
def test_chunks_give_the_gradients_of_open_clips_own_embeddings(architecture: str) -> None:
    torch.manual_seed(0)
    objective = ContrastiveObjective()
    model: Any = objective.build_model(settings(architecture))
    images, tokens = torch.randn(6, 3, 32, 32), torch.randint(1, 60, (6, 9))
    tokens[:, -1] = 63
    found = []
    for chunk in (None, 4):
        model.zero_grad()
        loss = backward(
            objective,
            model,
            Inputs(images, tokens),
            autocast=make_autocast(torch.device("cpu"), "fp32"),
            chunk=chunk,
        )
        trained = [parameter for parameter in model.parameters() if parameter.grad is not None]
        found.append((loss.value, [parameter.grad.clone() for parameter in trained]))
    whole = torch.nn.functional.pad(tokens, (0, 3))
    theirs = model.towers.model
    left = theirs.encode_image(images, normalize=True) if architecture == "tiny-clip" else theirs.encode_image(images)
    right = theirs.encode_text(whole, normalize=True) if architecture == "tiny-clip" else theirs.encode_text(whole)
    logits = left @ right.T / 0.07
    own = torch.arange(6)
    value = (torch.nn.functional.cross_entropy(logits, own) + torch.nn.functional.cross_entropy(logits.T, own)) / 2
    torch.testing.assert_close(found[0][0], value.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("open_clip")
@pytest.mark.parametrize("architecture", ["tiny-clip", "tiny-coca", "tiny-resnet"])
def test_features_before_the_projection_lead_to_open_clips_embedding(architecture: str) -> None:
    torch.manual_seed(0)
    model: Any = ContrastiveObjective().build_model(settings(architecture)).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        features = image_features(model, images)
        tower = model.towers.model.visual
        mapped = tower.attnpool.c_proj(features) if architecture == "tiny-resnet" else features @ tower.proj
        projected = torch.nn.functional.normalize(mapped, dim=-1)
        torch.testing.assert_close(projected, model.encode_image(images), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("open_clip")
@pytest.mark.parametrize(
    ("architecture", "changes", "words"),
    [
        ("tiny-clip", {"image_size": 64}, "tiny-clip has image_size 32: set model.image_size: 32"),
        ("tiny-clip", {"vocabulary": 65}, "set model.vocabulary: 64"),
        ("tiny-words", {}, "reads the tokens of x/y: set model.tokenizer to its tokenizer.json"),
        ("tiny-clip", {"tokenizer": Path("tokenizer.json")}, "tiny-clip reads CLIP's tokens"),
        ("no-such-model", {}, "open_clip has no model 'no-such-model'"),
    ],
)
def test_a_mistake_is_one_sentence(architecture: str, changes: dict[str, Any], words: str) -> None:
    rows = 100 if architecture == "tiny-words" else 64
    sizes: dict[str, Any] = {"image_size": 32, "context_length": 12, "vocabulary": rows, **changes}
    with pytest.raises(RecipeError) as caught:
        open_clip_model(architecture, **sizes)
    assert words in str(caught.value)


@pytest.mark.usefixtures("open_clip")
def test_what_is_left_out_is_open_clips(tmp_path: Path) -> None:
    name = "openwit.training.models.open_clip_model.open_clip_model"
    path = siglip.write_tokenizer(tmp_path)
    found = described(CustomModelSettings(name=name, architecture="tiny-words", tokenizer=path))  # type: ignore[call-arg]
    assert (found.image_size, found.context_length, found.clean) == (32, 12, "canonicalize")
    published = CustomModelSettings.model_validate({"name": name, "architecture": "ViT-B-16-SigLIP"})
    assert described(published).images == SIGLIP_IMAGES
    assert described(published).vocabulary == 32_000
    own = CustomModelSettings.model_validate({**published.model_dump(), "image_size": 64})
    assert described(own).image_size == 64
    with pytest.raises(RecipeError, match="has no weights 'x': known are webli"):
        described(CustomModelSettings.model_validate({**published.model_dump(), "images_of": "x"}))


@pytest.mark.slow
@pytest.mark.usefixtures("open_clip")
def test_a_run_with_a_tokenizer_of_hugging_face_is_resumed_and_evaluated(
    open_clip: ModuleType, configure: Any, tmp_path: Path
) -> None:
    path = siglip.write_tokenizer(tmp_path / "tokens")
    name = "openwit.training.models.open_clip_model.open_clip_model"
    theirs = open_clip.create_model("tiny-words")
    torch.save(theirs.state_dict(), tmp_path / "open_clip.pt")
    raw = configure(
        model={"name": name, "architecture": "tiny-words", "tokenizer": str(path), "vocabulary": 100,
               "init": str(tmp_path / "open_clip.pt")},
        schedule={"duration": "2 steps", "warmup": "0 steps"},
        checkpoint={"every": "1 steps", "keep": 2},
        memory={"chunk": 12, "checkpoint_activations": True},
    )  # fmt: skip
    outcome = fit(parse_settings(raw, TrainConfig, "config"))
    first = load_model(raw["run"]).model.state_dict()
    (Path(raw["run"]) / "checkpoints" / "step-000000002.pt").unlink()
    (tmp_path / "open_clip.pt").unlink()
    again = fit(parse_settings(raw, TrainConfig, "config"))
    assert (outcome.status, again.status) == ("finished", "finished")
    assert outcome.recall is not None
    loaded = load_model(raw["run"])
    torch.testing.assert_close(loaded.model.state_dict(), first, rtol=0, atol=0)
    embedded = loaded.encode_text(["a red box"])
    tokens = torch.from_numpy(loaded.tokenizer(["a red box"], 12))
    torch.testing.assert_close(embedded, loaded.model.towers.model.encode_text(tokens, normalize=True).detach())
