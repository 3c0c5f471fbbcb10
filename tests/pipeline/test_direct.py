"""A command's own steps: a dataset with its work folder beside it, resumed, explained, and never over other files."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.pictures import picture
from support.serial_engine import SerialEngine

from openwit.pipeline.dataset.places import work_folder
from openwit.pipeline.dataset.verify import verify_dataset
from openwit.pipeline.direct import build_to, dataset_name, recipe_of
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.explain.lookup import explain
from openwit.pipeline.step import Step
from openwit.schemas.common.errors import OpenWITError


def steps(table):
    return [Step("candidates", {"inputs": [str(table)]}), Step("dedup"), Step("shard")]


def test_a_dataset_and_its_work_folder(tmp_path):
    table = tmp_path / "in" / "birds.parquet"
    table.parent.mkdir()
    rows = [{"image": picture(n // 2), "text": f"a wren {n}"} for n in range(4)]
    pq.write_table(pa.Table.from_pylist(rows), table)
    out = tmp_path / "my birds"
    recipe = recipe_of(steps(table), out)
    assert recipe.name == "my-birds"
    assert recipe.inserted == ("select", "fetch")
    job = Job(SerialEngine())
    for other in (table.parent, tmp_path, table.parent / "out"):
        with pytest.raises(OpenWITError, match="overlap"):
            build_to(recipe, other, job, inputs=[str(table.parent)])
    done = build_to(recipe, out, job, inputs=[str(table)])
    assert done.dataset is not None
    assert verify_dataset(out) == []
    assert (work_folder(out) / "stages" / "dedup").is_dir()
    _, dropped = explain(out, "table:birds.parquet#1")
    assert [drop.reason for drop in dropped] == ["duplicate_bytes"]
    assert not build_to(recipe, out, job, inputs=[str(table)]).executed


def test_what_is_there_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(OpenWITError, match="not empty"):
        build_to(recipe_of(steps("a.parquet"), "x"), tmp_path / "out", Job(SerialEngine()))
    with pytest.raises(OpenWITError, match="is a file"):
        build_to(recipe_of(steps("a.parquet"), "x"), tmp_path / "out" / "thesis.txt", Job(SerialEngine()))


def test_names_of_datasets():
    assert dataset_name("s3://bucket/birds of prey/") == "birds-of-prey"
    assert dataset_name("/") == "dataset"
