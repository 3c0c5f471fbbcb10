"""Near-duplicates of evaluation images planted into training data: the builder finds them, the trainer judges them."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.pictures import picture
from support.serial_engine import SerialEngine
from support.tars import write_tar

from openwit.pipeline.execution.stage import Job
from openwit.pipeline.existing import Wanted
from openwit.pipeline.existing_run import report_overlap, run_existing
from openwit.training.cli.main import main

pytestmark = pytest.mark.slow


def copied(image: bytes, size: tuple[int, int], form: str) -> bytes:
    """The same picture in another size and encoding."""
    out = io.BytesIO()
    Image.open(io.BytesIO(image)).convert("RGB").resize(size, Image.Resampling.BICUBIC).save(out, form, quality=80)
    return out.getvalue()


def run_cli(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


@pytest.mark.parametrize("kind", ["dataset", "tar", "parquet", "folder"])
def test_planted_copies_are_found_and_judged(kind: str, tmp_path: Path, capsys: Any) -> None:
    evaluation = [picture(number, (120, 96), "PNG") for number in range(20)]
    table = pa.table({"image": evaluation, "label": ["wren", "kite"] * 10})
    pq.write_table(table, tmp_path / "eval.parquet")
    planted = [copied(evaluation[2], (100, 80), "JPEG"), copied(evaluation[7], (180, 144), "WEBP"), evaluation[11]]
    training = [*(picture(number, (120, 96)) for number in range(50, 58)), *planted]
    source = tmp_path / "in"
    source.mkdir()
    texts = [f"a bird {number}" for number in range(len(training))]
    if kind == "folder":
        for number, image in enumerate(training):
            ending = {b"\xff\xd8": "jpg", b"RI": "webp"}.get(image[:2], "png")
            (source / f"{number}.{ending}").write_bytes(image)
            (source / f"{number}.txt").write_text(texts[number])
    elif kind == "tar":
        members = {}
        for number, image in enumerate(training):
            members[f"s{number}.jpg"], members[f"s{number}.txt"] = image, texts[number].encode()
        write_tar(source / "0.tar", members.items())
    else:
        pq.write_table(pa.table({"image": training, "text": texts}), source / "0.parquet")
    inputs = [str(source / {"tar": "0.tar", "folder": ""}.get(kind, "0.parquet"))]
    job = Job(SerialEngine())
    if kind == "dataset":
        run_existing(inputs, Wanted("reshard"), tmp_path / "dataset", job)
        inputs = [str(tmp_path / "dataset")]
    dedup = {"duplicates": "keep", "exclude": [str(tmp_path / "eval.parquet")]}
    report = tmp_path / "clean.overlap.parquet"
    report_overlap(inputs, Wanted("decontaminate", dedup=dedup), None, report, job)
    # A model that remembers: right on what it saw, and on every third of the rest.
    right = [int(number in (2, 7, 11) or number % 3 == 0) for number in range(20)]
    rows = pa.table({"key": [f"row {number}" for number in range(20)], "correct": right})
    pq.write_table(rows, tmp_path / "right.parquet")
    out, page = tmp_path / "out.json", tmp_path / "page.html"
    command = ["overlap", "--data", tmp_path / "eval.parquet", "--report", report]
    assert run_cli(*command, "--results", tmp_path / "right.parquet", "--out", out, "--page", page) == 0
    (record,) = json.loads(out.read_text())["results"]
    assert record["overlap"] == {"images": 3, "right": 3, "accuracy": 1.0}
    assert record["clean"] == {"images": 17, "right": 7, "accuracy": 7 / 17}
    assert record["unmatched"] == {}
    assert record["p_value"] == pytest.approx((7 / 17) ** 3)
    assert record["share"] == 0.15
    assert "significant at 5% after Bonferroni over 1 evaluation set" in capsys.readouterr().out
    text = page.read_text()
    assert text.count("data:image/jpeg") == 6, "each evaluation image stands beside its training image"
