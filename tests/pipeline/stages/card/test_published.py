"""README.md and croissant.json: what they say against the files, and the libraries that read them."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from support.small_build import make_recipe, run
from support.trees import dataset_tree

from openwit.pipeline.dataset.verify import verify_dataset
from openwit.pipeline.stages.card import Card
from openwit.pipeline.stages.card.column_types import croissant_type, feature, json_type, type_of_value
from openwit.pipeline.stages.card.huggingface import size_category
from openwit.pipeline.stages.card.settings import CardSettings
from openwit.schemas.manifest import DatasetManifest

from .conftest import sample

LOADER = Path(__file__).parents[3] / "support" / "load_published.py"
BY = "https://creativecommons.org/licenses/by/2.0/"


def publish(job, folder):
    """Writes the card; returns (header of the README, its body, the Croissant document)."""
    Card().run(job, CardSettings(), {"dataset": folder}, folder)
    text = (folder / "README.md").read_text()
    _, header, body = text.split("---\n", 2)
    return yaml.safe_load(header), body, json.loads((folder / "croissant.json").read_text())


def test_the_header_tells_where_the_splits_are_and_what_was_measured(job, birds):
    header, body, _ = publish(job, birds)
    assert header["configs"] == [
        {
            "config_name": "webdataset",
            "default": True,
            "data_files": [{"split": "train", "path": "train/*.tar"}, {"split": "val", "path": "val/*.tar"}],
        }
    ]
    assert header["size_categories"] == ["n<1K"]
    assert sorted(header["language"]) == ["de", "en"]
    assert header["license"] == "other"
    assert {"image-to-text", "zero-shot-image-classification"} <= set(header["task_categories"])
    assert "| `train` | 12 | 18 | 2 |" in body
    for column in DatasetManifest.load(birds).shards[0:1]:
        for name in pq.read_schema(birds / column.metadata.path).names:
            assert f"| `{name}` |" in body


@pytest.mark.parametrize(
    ("licences", "expected"),
    [
        ([BY] * 2, "cc-by-2.0"),
        (["http://creativecommons.org/licenses/by-nc-sa/4.0"] * 2, "cc-by-nc-sa-4.0"),
        (["https://creativecommons.org/publicdomain/zero/1.0/"] * 2, "cc0-1.0"),
        ([BY, None], "other"),
        ([BY, "https://creativecommons.org/licenses/by/4.0/"], "other"),
        (["https://example.org/my-terms"] * 2, "other"),
        ([None, None], "other"),
    ],
)
def test_a_licence_is_named_only_if_every_text_states_it(job, make_dataset, licences, expected):
    rows = [sample(n, ["a wren"], licenses=[licence]) for n, licence in enumerate(licences)]
    header, _, _ = publish(job, make_dataset({"train": [rows]}))
    assert header["license"] == expected
    assert ("license_name" in header) == (expected == "other")


def test_every_file_is_described_with_its_checksum(job, birds):
    _, _, document = publish(job, birds)
    objects = {entry["@id"]: entry for entry in document["distribution"] if entry["@type"] == "cr:FileObject"}
    assert set(objects) >= {"manifest.json", "train/00000.tar", "train/00001.parquet", "val/00002.tar"}
    for name, entry in objects.items():
        data = (birds / name).read_bytes()
        assert entry["contentUrl"] == name
        assert entry["sha256"] == hashlib.sha256(data).hexdigest()
        assert entry["contentSize"] == f"{len(data)} B"
    sets = {entry["@id"]: entry for entry in document["distribution"] if entry["@type"] == "cr:FileSet"}
    assert sets["metadata-files"]["includes"] == ["train/*.parquet", "val/*.parquet"]
    assert {part["@id"] for part in sets["jpg-files"]["containedIn"]} == {n for n in objects if n.endswith(".tar")}
    metadata, images = document["recordSet"]
    fields = {field["name"]: field for field in metadata["field"]}
    assert set(fields) == {"split", *pq.read_schema(birds / "train/00000.parquet").names}
    assert fields["texts"]["repeated"] is True
    assert (fields["width"]["dataType"], fields["caption"]["dataType"]) == ("sc:Integer", "sc:Text")
    assert images["field"][1]["dataType"] == "sc:ImageObject"
    ids = [entry["@id"] for entry in [*document["distribution"], *document["recordSet"], *metadata["field"]]]
    assert len(ids) == len(set(ids))


def test_columns_of_the_input_are_described_too(job, make_dataset):
    """Whatever the metadata has beyond our columns: the schema is read from the files."""
    folder = make_dataset({"train": [[sample(0, ["a wren"])]]})
    path = folder / "train" / "00000.parquet"
    table = pq.read_table(path).append_column("aesthetic", pa.array([0.5], pa.float32()))
    table = table.append_column("boxes", pa.array([[[1, 2]]], pa.list_(pa.list_(pa.int16()))))
    pq.write_table(table, path)
    manifest = DatasetManifest.load(folder)
    data = path.read_bytes()
    entry = manifest.shards[0].metadata.model_copy(
        update={"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    )
    shard = manifest.shards[0].model_copy(update={"metadata": entry})
    manifest.model_copy(update={"shards": [shard]}).save(folder)
    _, body, document = publish(job, folder)
    fields = {field["name"]: field for field in document["recordSet"][0]["field"]}
    assert fields["aesthetic"]["dataType"] == "sc:Float"
    assert (fields["boxes"]["dataType"], fields["boxes"]["repeated"]) == ("sc:Integer", True)
    assert "| `aesthetic` | `float` | a column of the input |" in body


def test_hostile_texts_stay_in_their_line(job, make_dataset):
    hostile = "x\n---\n# Heading | cell <script>alert(1)</script> [a](javascript:b) `code`"
    rows = [sample(0, ["a"], licenses=[hostile], languages=[hostile])]
    header, body, document = publish(job, make_dataset({"train": [rows]}, description=hostile))
    assert "<script>" not in body.replace("\\<script\\>", "").replace("`x --- # Heading ¦ cell <script>", "")
    assert not any(line.startswith("# Heading") for line in body.splitlines())
    assert header["pretty_name"] == "d"
    assert "language" not in header
    assert "license" not in document
    assert document["description"].startswith("x\n---")


def test_the_same_files_give_the_same_bytes_and_a_change_is_found(job, birds):
    publish(job, birds)
    first = dataset_tree(birds)
    assert verify_card(birds) == []
    assert not Card().run(job, CardSettings(), {"dataset": birds}, birds).executed
    for name in ("README.md", "croissant.json"):
        path = birds / name
        path.write_text(path.read_text() + "\n")
        assert [problem.partition(":")[0] for problem in verify_card(birds)] == [name]
        assert Card().run(job, CardSettings(), {"dataset": birds}, birds).executed
        path.unlink()
        assert [problem.partition(":")[0] for problem in verify_card(birds)] == [name]
        assert Card().run(job, CardSettings(), {"dataset": birds}, birds).executed
        assert dataset_tree(birds) == first


def verify_card(folder):
    names = ("card.", "README.md", "croissant.json", "manifest.json")
    return [problem for problem in verify_dataset(folder) if problem.startswith(names)]


def test_a_readme_of_ones_own_is_kept(job, birds, caplog):
    (birds / "README.md").write_text("# My birds\n")
    assert verify_card(birds) == []
    Card().run(job, CardSettings(), {"dataset": birds}, birds)
    assert (birds / "README.md").read_text() == "# My birds\n"
    assert "README.md" not in (birds / "card.sha256").read_text()
    assert "it is kept" in caplog.text
    assert verify_card(birds) == []
    assert not Card().run(job, CardSettings(), {"dataset": birds}, birds).executed


def test_a_card_of_an_earlier_release_is_still_verified(job, birds):
    publish(job, birds)
    sums = (birds / "card.sha256").read_text().splitlines(keepends=True)
    (birds / "card.sha256").write_text("".join(x for x in sums if "README" not in x and "croissant" not in x))
    assert [problem.partition(":")[0] for problem in verify_card(birds)] == ["README.md", "croissant.json"]
    for name in ("README.md", "croissant.json"):
        (birds / name).unlink()
    assert verify_card(birds) == []


def test_types_of_columns():
    nested = pa.list_(pa.struct([("x", pa.int16()), ("at", pa.timestamp("us"))]))
    assert feature("a", nested) == {
        "name": "a", "list": {"struct": [{"name": "x", "dtype": "int16"}, {"name": "at", "dtype": "timestamp[us]"}]},
    }  # fmt: skip
    assert feature("a", pa.float64()) == {"name": "a", "dtype": "float64"}
    assert feature("a", pa.large_string()) == {"name": "a", "dtype": "string"}
    assert feature("a", pa.list_(pa.bool_())) == {"name": "a", "list": "bool"}
    assert json_type(nested) == pa.list_(pa.struct([("x", pa.int16()), ("at", pa.string())]))
    assert json_type(pa.binary()) == json_type(pa.decimal128(5, 2)) == pa.string()
    assert type_of_value(None) == type_of_value([None, {}, 1]) == pa.string()
    assert type_of_value([1.5]) == pa.list_(pa.float64())
    assert croissant_type(pa.list_(pa.list_(pa.float32()))) == ("sc:Float", True)
    assert croissant_type(pa.date32()) == ("sc:Date", False)


@pytest.mark.parametrize(
    ("samples", "name"), [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (10**9, "1B<n<10B"), (10**13, "n>1T")]
)
def test_sizes_have_the_names_of_the_hub(samples, name):
    assert size_category(samples) == name


@pytest.mark.slow
def test_datasets_and_mlcroissant_read_it(tmp_path):
    """In a process of its own; OPENWIT_HF_PYTHON names another Python that has both libraries."""
    python = os.environ.get("OPENWIT_HF_PYTHON", sys.executable)
    if python == sys.executable:
        for library in ("datasets", "mlcroissant"):
            if importlib.util.find_spec(library) is None:
                pytest.skip(f"{library} is not installed: it is in openwit[dev]")
    run(make_recipe(tmp_path), tmp_path / "w")
    folder = tmp_path / "w" / "dataset"
    command = [python, str(LOADER), str(folder), str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    manifest = DatasetManifest.load(folder)
    samples = {split: manifest.samples(split) for split in manifest.splits()}
    assert len(samples) == 2
    assert found["folder"] == found["webdataset"] == found["parquet"] == samples
    assert found["streamed"] == samples["train"]
    rows = {
        split: [row for s in manifest.shards_of(split) for row in pq.read_table(folder / s.metadata.path).to_pylist()]
        for split in samples
    }
    assert found["sizes"] == [[row["width"], row["height"]] for row in rows["train"]]
    assert found["texts"] == [row["caption"] for row in rows["train"]]
    assert found["documents"] == rows["train"]
    every = [row for part in rows.values() for row in part]
    assert found["errors"] == []
    assert all("datePublished" in line or "license" in line for line in found["warnings"])
    assert (found["records"], found["images"]) == (len(every), len(every))
    assert found["splits"] == sorted(samples)
    assert found["captions"] == sorted(row["caption"] for row in every)
    assert found["keys"] == sorted(row["key"] for row in every)
    assert found["image_sizes"] == sorted([row["width"], row["height"]] for row in every)
