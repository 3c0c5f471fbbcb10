"""Tables that travel from stage to stage, where there are any."""

import pytest

from openwit.pipeline.execution.stage import STAGE_MANIFEST
from openwit.pipeline.stages.sidecars import copy_examples
from openwit.schemas.common.errors import DataError
from openwit.schemas.common.storage import as_path


@pytest.mark.parametrize("place", ["local", "memory"])
def test_what_an_earlier_stage_did_not_write_is_not_copied(tmp_path, place):
    root = tmp_path if place == "local" else as_path(f"memory://{tmp_path}")
    source, target = root / "dedup", root / "dataset"
    manifest = source / STAGE_MANIFEST
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text('{"stage": "dedup", "files": []}')
    assert copy_examples(source, target) == []
    (source / "duplicates.parquet").write_bytes(b"rows")
    assert [file.path for file in copy_examples(source, target)] == ["duplicates.parquet"]
    assert (target / "duplicates.parquet").read_bytes() == b"rows"


@pytest.mark.parametrize("place", ["local", "memory"])
def test_a_listed_file_that_is_missing_is_damage(tmp_path, place):
    root = tmp_path if place == "local" else as_path(f"memory://{tmp_path}/listed")
    source = root / "dedup"
    manifest = source / STAGE_MANIFEST
    manifest.parent.mkdir(parents=True, exist_ok=True)
    entry = '{"path": "duplicates.parquet", "rows": 1, "bytes": 4, "sha256": "00"}'
    manifest.write_text(f'{{"stage": "dedup", "files": [{entry}]}}')
    with pytest.raises(DataError, match=r"duplicates\.parquet is missing"):
        copy_examples(source, root / "dataset")
