"""Evaluation images are kept out of a dataset: real pictures, changed as the web changes them."""

import io
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.pipeline.stages.dedup.test_stage import image as row

from openwit.pipeline.execution.files import file_entry
from openwit.pipeline.execution.stage import StageResult, run_stage
from openwit.pipeline.images.process import process_image
from openwit.pipeline.images.settings import ImageSettings
from openwit.pipeline.stages.dedup import Dedup
from openwit.pipeline.stages.dedup.settings import DedupSettings
from openwit.schemas.common.errors import OpenWITError
from openwit.schemas.tables.candidates import DROPS
from openwit.schemas.tables.images import EXCLUDED, IMAGES, SURVIVORS


def picture(seed, size=(200, 150)):
    """Smooth shapes, so that a hash has something to hold on to."""
    noise = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def encoded(image, kind="JPEG", **how):
    out = io.BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


@pytest.fixture
def fetched(job, tmp_path):
    """A fetch folder of images given by name and body."""

    def make(bodies):
        folder = tmp_path / "fetched"

        def body():
            rows = []
            for name, data in bodies.items():
                done = process_image(data, ImageSettings())
                facts = {
                    "sha256": done.sha256,
                    "pixels_hash": done.pixels_hash,
                    "phash": done.phash,
                    "fingerprint": done.descriptor,
                }
                rows.append({**row(name, texts=[f"text of {name}"]), **facts, "image": done.data})
            path = folder / "images" / "00000.parquet"
            IMAGES.write(path, pa.Table.from_pylist(rows, schema=IMAGES.arrow))
            return StageResult(files=[file_entry(folder, path)])

        run_stage(job, folder, "fetch", 1, {"image": ImageSettings().model_dump(mode="json")}, {}, body)
        return folder

    return make


def test_copies_of_evaluation_images_leave_whatever_was_done_to_them(job, fetched, tmp_path):
    one, two, three = picture(1), picture(2), picture(3)
    folder = fetched(
        {
            "same": encoded(one, quality=90),
            "smaller": encoded(one.resize((100, 75)), quality=60),
            "mirrored": encoded(two.transpose(Image.Transpose.FLIP_LEFT_RIGHT), quality=80),
            "innocent": encoded(picture(4)),
        }
    )
    evaluation = tmp_path / "evaluation"
    evaluation.mkdir()
    (evaluation / "one.jpg").write_bytes(encoded(one, quality=90))
    (evaluation / "notes.txt").write_text("no image")
    (evaluation / "broken.jpg").write_bytes(encoded(three)[:300])
    with tarfile.open(tmp_path / "two.tar", "w") as tar:
        data = encoded(two, "PNG")
        member = tarfile.TarInfo("val/two.png")
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    pq.write_table(pa.table({"image": [encoded(three)], "label": [3]}), tmp_path / "three.parquet")
    exclude = [str(evaluation), str(tmp_path / "two.tar"), str(tmp_path / "*.parquet")]

    manifest, _ = Dedup().run(job, DedupSettings(exclude=exclude), {"images": folder}, tmp_path / "out")

    (kept,) = SURVIVORS.read(tmp_path / "out" / "survivors" / "00000.parquet").to_pylist()
    assert kept["url"].endswith("innocent")
    report = {
        r["url"].rpartition("/")[2]: r for r in EXCLUDED.read(tmp_path / "out/excluded/00000.parquet").to_pylist()
    }
    assert sorted(report) == ["mirrored", "same", "smaller"]
    assert report["same"]["variant"] == "same_bytes"
    assert report["same"]["evaluation_image"].endswith("one.jpg")
    assert "two.tar" in report["mirrored"]["evaluation_image"]
    assert "mirrored" in report["mirrored"]["variant"]
    assert manifest.extra["excluded"]["images"] == 3
    assert manifest.extra["excluded"]["evaluation_images"] == 2
    steps = {step.unit: step for step in manifest.funnel}
    assert steps["images"].reasons == {"evaluation_image": 3}
    assert steps["pairs"].reasons == {"evaluation_image": 3}
    assert steps["evaluation images"].rows_in == 4
    assert steps["evaluation images"].rows_out == 3
    drops = DROPS.read(tmp_path / "out" / "drops" / "00000.parquet").to_pylist()
    assert all("one.jpg" in drop["detail"] or "two.tar" in drop["detail"] for drop in drops)


def test_a_plain_picture_is_known_by_its_bytes_alone(job, fetched, tmp_path):
    white = encoded(Image.new("RGB", (90, 90), "white"))
    folder = fetched(
        {"white": white, "whiter": encoded(Image.new("RGB", (90, 90), (254, 255, 255))), "a": encoded(picture(1))}
    )
    (tmp_path / "white.jpg").write_bytes(white)
    settings = DedupSettings(exclude=[str(tmp_path / "white.jpg")], max_distance=None)
    manifest, _ = Dedup().run(job, settings, {"images": folder}, tmp_path / "out")
    assert manifest.extra["excluded"]["by_variant"] == {"same_bytes": 1}


def test_changed_evaluation_images_are_another_input(job, fetched, tmp_path):
    folder = fetched({"a": encoded(picture(1))})
    (tmp_path / "e.jpg").write_bytes(encoded(picture(2)))
    settings = DedupSettings(exclude=[str(tmp_path / "e.jpg")])
    Dedup().run(job, settings, {"images": folder}, tmp_path / "out")
    (tmp_path / "e.jpg").write_bytes(encoded(picture(3), quality=50))
    with pytest.raises(OpenWITError, match="exclude was"):
        Dedup().run(job, settings, {"images": folder}, tmp_path / "out")


@pytest.mark.parametrize("missing", [True, False])
def test_evaluation_images_that_are_not_there_are_one_sentence(job, fetched, tmp_path, missing):
    folder = fetched({"a": encoded(picture(1))})
    if not missing:
        (tmp_path / "nothing.jpg").write_bytes(b"no image")
    with pytest.raises(OpenWITError, match=r"nothing\.jpg"):
        Dedup().run(job, DedupSettings(exclude=[str(tmp_path / "nothing.jpg")]), {"images": folder}, tmp_path / "out")
