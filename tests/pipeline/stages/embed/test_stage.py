"""The stage embed on a small dataset: plain functions, resumption, formats, and functions that misbehave."""

import io
import shutil
from importlib.util import find_spec

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.serial_engine import SerialEngine
from support.small_build import make_recipe, run

from openwit.pipeline.build import build
from openwit.pipeline.dataset.verify import verify_dataset
from openwit.pipeline.execution.runners import make_engine
from openwit.pipeline.execution.stage import Job, StageManifest
from openwit.pipeline.recipe import Recipe
from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.manifest import DatasetManifest
from openwit.training.data.sharded import ShardedDataset
from openwit.training.evaluation.search.vectors import open_vectors


def mean_colour(images, scale=1.0):
    """Return the mean colour of each image; none for pictures that are mostly red."""
    means = [np.asarray(Image.open(io.BytesIO(image)).convert("RGB")).mean(axis=(0, 1)) for image in images]
    return np.array(means) / 255 * scale


def length(texts):
    return [[len(text), text.count(" ")] for text in texts]


class NotTheFirst:
    """Gives no vector for the first item of a batch."""

    def __call__(self, images):
        found = mean_colour(images)
        found[0] = np.nan
        return found

    @staticmethod
    def identity():
        return {"sha256": "abc"}


def too_few(images):
    return mean_colour(images)[1:]


def raising(images):  # noqa: ARG001
    raise OSError("no such thing")


def infinite(images):
    return mean_colour(images) * np.inf


def words(images):
    return ["a"] * len(images)


def large(images):
    return mean_colour(images) + 1e6


HERE = __name__


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("birds")
    run(make_recipe(folder), folder / "out")
    return folder / "out" / "dataset"


@pytest.fixture
def named(monkeypatch):
    """The functions of this file by an importable name."""
    import sys

    monkeypatch.setitem(sys.modules, "embed_functions", sys.modules[HERE])
    return "embed_functions"


def embedded(dataset, workdir, engine=None, **settings):
    recipe = Recipe.parse({"name": "e", "steps": [{"embed": {"dataset": str(dataset), **settings}}]}, "recipe")
    return build(recipe, workdir, Job(engine or SerialEngine()))


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "stages/embed/embeddings").iterdir())}


def test_a_plain_function_embeds_every_sample(dataset, named, tmp_path):
    done = embedded(dataset, tmp_path, images=f"{named}.mean_colour", texts=f"{named}.length", batch=3)
    step = done.steps[0].manifest.funnel[0]
    manifest = DatasetManifest.load(dataset)
    assert (step.rows_in, step.rows_out) == (sum(s.samples for s in manifest.shards),) * 2
    for shard in manifest.shards:
        table = pq.read_table(tmp_path / f"stages/embed/embeddings/{shard.split}-{shard.name}.parquet")
        facts = pq.read_table(dataset / shard.metadata.path)
        assert table["key"].to_pylist() == facts["key"].to_pylist()
        assert table["text_embedding"].to_pylist() == length(facts["caption"].to_pylist())
    split = ShardedDataset(dataset, "train")
    found = np.concatenate([block for _, block in open_vectors(tmp_path / "stages/embed").blocks()])
    wanted = mean_colour([split.sample(n).image for n in range(len(split))])
    assert np.abs(found[: len(wanted)] - wanted).max() < 1e-3
    assert list(verify_dataset(dataset)) == []
    again = embedded(dataset, tmp_path, images=f"{named}.mean_colour", texts=f"{named}.length", batch=3)
    assert not again.executed
    shutil.rmtree(tmp_path / "stages/embed/embeddings")
    (tmp_path / "stages/embed/.stage/manifest.json").unlink()
    embedded(dataset, tmp_path, images=f"{named}.mean_colour", texts=f"{named}.length", batch=3)
    other = tmp_path / "other"
    embedded(dataset, other, SerialEngine(5), images=f"{named}.mean_colour", texts=f"{named}.length", batch=3)
    assert contents(tmp_path) == contents(other)


def test_samples_without_a_vector_are_counted_and_named(dataset, named, tmp_path):
    embedded(dataset, tmp_path, images=f"{named}.NotTheFirst", dtype="float32")
    manifest = StageManifest.load(tmp_path / "stages/embed", "embed")
    shards = DatasetManifest.load(dataset).shards
    assert manifest.funnel[0].reasons == {"no_vector": len(shards)}
    first = [pq.read_table(dataset / shard.metadata.path)["key"][0].as_py() for shard in shards]
    assert sorted(manifest.extra["unreadable"]) == sorted(first)
    drops = [pq.read_table(path) for path in sorted((tmp_path / "stages/embed/drops").glob("*.parquet"))]
    assert sum(table.num_rows for table in drops) == len(shards)
    assert manifest.extra["functions"]["images"] == {
        "name": f"{named}.NotTheFirst",
        "identity": {"sha256": "abc"},
    }
    assert open_vectors(tmp_path / "stages/embed").model == {"sha256": "abc"}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"images": "FN.too_few"}, "one row of numbers is wanted for each of"),
        ({"images": "FN.raising"}, "failed on .*, samples .*: OSError: no such thing"),
        ({"images": "FN.infinite"}, "no finite number"),
        ({"images": "FN.words"}, "returned no array of numbers"),
        ({"images": "FN.large"}, "set embed.dtype to float32"),
        ({"images": "FN.nothing"}, "has no attribute 'nothing'"),
        ({"images": {"name": "FN.mean_colour", "size": 3}}, "cannot be called with 1 positional argument, size"),
        ({}, "images and texts are both missing"),
        ({"images": "FN.mean_colour", "dataset": "nowhere"}, "nowhere is not a dataset"),
    ],
)
def test_what_is_wrong_is_said(dataset, named, tmp_path, settings, sentence):
    plain = {
        key: value.replace("FN", named)
        if isinstance(value, str)
        else {**value, "name": value["name"].replace("FN", named)}
        for key, value in settings.items()
    }
    with pytest.raises(OpenWITError, match=sentence):
        embedded(plain.pop("dataset", dataset), tmp_path, **plain)


def test_a_damaged_shard_and_a_changed_dataset_are_noticed(dataset, named, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    shard = DatasetManifest.load(copy).shards[0]
    embedded(copy, tmp_path / "work", images=f"{named}.mean_colour")
    (copy / "manifest.json").write_text((copy / "manifest.json").read_text().replace("birds", "other"))
    with pytest.raises(OpenWITError, match="stage of another recipe or input"):
        embedded(copy, tmp_path / "work", images=f"{named}.mean_colour")
    (copy / shard.tar.path).write_bytes(b"")
    with pytest.raises(OpenWITError, match="ends inside an image"):
        embedded(copy, tmp_path / "again", images=f"{named}.mean_colour")
    (copy / shard.index.path).write_bytes(b"x")
    with pytest.raises(OpenWITError, match="has changed since it was written"):
        embedded(copy, tmp_path / "third", images=f"{named}.mean_colour")


@pytest.mark.parametrize("form", ["files", "parquet"])
def test_other_formats_and_a_step_of_the_same_build(named, tmp_path, form):
    recipe = make_recipe(tmp_path).to_dict()
    steps = [step if "shard" not in step else {"shard": {"samples": 8, "format": form}} for step in recipe["steps"]]
    recipe = Recipe.parse({**recipe, "steps": [*steps, {"embed": {"images": f"{named}.mean_colour"}}]}, "recipe")
    done = build(recipe, tmp_path / "out", Job(SerialEngine()))
    assert done.step("embed").manifest.funnel[0].rows_out == sum(s.samples for s in done.dataset.shards)
    assert list(verify_dataset(tmp_path / "out" / "dataset")) == []


@pytest.mark.slow
def test_a_model_of_the_trainer_embeds_in_workers(dataset, tmp_path):
    assert find_spec("torch") is not None
    import torch

    from openwit.training.checkpoints.load import load_model
    from openwit.training.config.zoo import ClipSpec
    from openwit.training.evaluation.search.identity import identity_of
    from openwit.training.models.clip import Clip
    from openwit.training.models.weights import save_safetensors

    torch.manual_seed(1)
    tower = {"width": 64, "layers": 1, "heads": 1}
    spec = {
        "embed_dim": 12,
        "vision": {**tower, "image_size": 32, "patch_size": 16},
        "text": {**tower, "context_length": 16},
    }
    save_safetensors(Clip(ClipSpec.model_validate(spec)), tmp_path / "model.safetensors")
    path = str(tmp_path / "model.safetensors")
    settings = {
        "images": {"name": "openwit.training.embedding.Images", "model": path},
        "texts": {"name": "openwit.training.embedding.Texts", "model": path},
    }
    engine = make_engine("local", 2)
    try:
        embedded(dataset, tmp_path / "two", engine, **settings)
    finally:
        engine.close()
    embedded(dataset, tmp_path / "one", **settings)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    model = load_model(path)
    vectors = open_vectors(tmp_path / "one/stages/embed", "texts")
    assert vectors.model == identity_of(model)
    assert vectors.model_path == path
    captions = [row["caption"] for row in vectors.rows(range(len(vectors)))]
    found = np.concatenate([block for _, block in vectors.blocks()])
    assert np.abs(found - model.encode_text(captions).numpy()).max() < 2e-3
