"""open_clip's layout, loaded by open_clip where it is installed."""

import json
from pathlib import Path

import pytest
import torch
from support import open_clip

from openwit.schemas.common.errors import OpenWITError
from openwit.training.export.metadata import file_metadata
from openwit.training.export.open_clip import write_open_clip
from openwit.training.models.weights import model_from_weights

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "bias"), [("vit", None), ("vit", -10.0), ("resnet", None)])
def test_open_clip_makes_the_model_from_the_folder(made, folder: Path, name: str, bias: float | None) -> None:
    source = made.source(name, bias, own_tokenizer=False)
    write_open_clip(source, folder)
    images, ids = made.pictures(3, source.model.spec.vision.image_size), made.tokens(source)
    with open_clip.imported() as module:
        theirs = module.create_model(f"local-dir:{folder}").eval()
        their_ids = module.get_tokenizer(f"local-dir:{folder}")(["the cat"])
    assert their_ids.shape == (1, source.model.spec.text.context_length)
    padded = torch.nn.functional.pad(ids, (0, source.model.spec.text.context_length - ids.shape[1]))
    with torch.inference_mode():
        torch.testing.assert_close(theirs.encode_image(images), source.model.visual(images), **TOLERANCE)
        torch.testing.assert_close(theirs.encode_text(padded), source.model.text(ids), **TOLERANCE)
        assert theirs.logit_scale == source.model.logit_scale
        assert bias is None or theirs.logit_bias == source.model.logit_bias


@pytest.mark.filterwarnings("ignore")
def test_open_clip_takes_an_own_tokenizer_from_the_folder(made, folder: Path) -> None:
    pytest.importorskip("transformers", exc_type=ImportError)
    source = made.source("vit")
    write_open_clip(source, folder)
    texts = ["The Cat", "he  ate the hat"]
    with open_clip.imported() as module:
        theirs = module.get_tokenizer(f"local-dir:{folder}")(texts)
    ours = torch.from_numpy(source.tokenizer(texts, 12))
    assert torch.equal(theirs[:, : ours.shape[1]], ours.where(ours != 0, source.tokenizer.end_of_text))


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_we_load_it_too_and_the_lineage_stands_in_the_header(made, folder: Path, name: str) -> None:
    source = made.source(name)
    write_open_clip(source, folder)
    model, report = model_from_weights(folder / "open_clip_model.safetensors")
    assert model.spec == source.model.spec
    assert report.notes == ()
    config = json.loads((folder / "open_clip_config.json").read_text())
    assert config["model_cfg"]["text_cfg"]["vocab_size"] == source.tokenizer.vocabulary_size
    assert json.loads(file_metadata(source)["openwit_lineage"]) == source.lineage
    assert (folder / "merges.txt").exists()


def test_a_stem_of_convolutions_is_refused(made, folder: Path) -> None:
    with pytest.raises(OpenWITError, match="open_clip has no image tower with a stem of convolutions"):
        write_open_clip(made.source("convolutions"), folder)
