from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.pictures import picture

from openwit.schemas.common.errors import DataError
from openwit.schemas.common.settings import parse_settings
from openwit.training.config import DataSettings, TrainConfig
from openwit.training.data.sample_texts import CorruptSampleError
from openwit.training.data.sources import held_out_source, open_source
from openwit.training.run.loop import fit


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Four images in two folders."""
    for number, name in enumerate(("cat/a.jpg", "cat/b.PNG", "hot_dog/c.jpg", "hot_dog/d.jpg")):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number, (40, 30), "PNG" if name.endswith("PNG") else "JPEG"))
    return tmp_path / "images"


def opened(**keys: Any) -> tuple[Any, list[str]]:
    said: list[str] = []
    data = DataSettings.model_validate({"batch_size": 2, **keys})
    return open_source(data, seed=0, report=said.append), said


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", 'image,caption\ncat/a.jpg,one\ncat/a.jpg,"two, too"\ncat/b.PNG,three\n,x\ncat/b.PNG,\n'),
        ("a.tsv", "filepath\ttitle\ncat/a.jpg\tone\ncat/a.jpg\ttwo, too\ncat/b.PNG\tthree\n\tx\ncat/b.PNG\t\n"),
        # open_clip's own: tabs in a file that is called CSV.
        (
            "b.csv",
            "\ufefffilepath\ttitle\r\ncat/a.jpg\tone\r\ncat/a.jpg\ttwo, too\r\ncat/b.PNG\tthree\r\n\tx\r\nx.jpg\t\r\n",
        ),
        ("c.csv", "path;id;text\ncat/a.jpg;1;one\ncat/a.jpg;2;two, too\ncat/b.PNG;3;three\n;4;x\ncat/b.PNG;5;\n"),
        (
            "a.jsonl",
            '{"file_name": "cat/a.jpg", "text": ["one", "two, too"]}\n\n{"file_name": "cat/b.PNG", "text": "three"}\n',
        ),
    ],
)
def test_tables_of_paths_and_captions(images: Path, name: str, text: str) -> None:
    (images / name).write_text(text, newline="")
    source, said = opened(table=images / name)
    assert [source.sample(n).texts for n in range(2)] == [("one", "two, too"), ("three",)]
    assert source.sample(0).image == (images / "cat/a.jpg").read_bytes()
    assert [source.key(n) for n in range(2)] == ["cat/a.jpg", "cat/b.PNG"]
    assert "2 images below" in said[0]
    assert ("left aside: 2 rows" in said[0]) == (name != "a.jsonl")


def test_parquet_and_named_columns(images: Path) -> None:
    table = pa.table({"where": ["cat/a.jpg", "gone.jpg"], "said": [["x", "y"], ["z"]], "text": ["no", "no"]})
    pq.write_table(table, images / "t.parquet")
    source, _ = opened(table=images / "t.parquet", image_column="where", caption_column="said")
    assert source.sample(0).texts == ("x", "y")
    with pytest.raises(CorruptSampleError, match=r"gone\.jpg: gone\.jpg: No such file"):
        source.sample(1)
    with pytest.raises(DataError, match=r"columns \('where', 'said', 'text'\) is known: set data.image_column"):
        opened(table=images / "t.parquet")
    with pytest.raises(DataError, match="has no column 'what'"):
        opened(table=images / "t.parquet", image_column="what")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,text\nno.jpg,x\n", "does not exist, neither below"),
        ("path,text\nhttp://x/a.jpg,x\n", "holds URLs"),
        ("path,text\n", "no row with a path and a caption"),
        ("", "none of its columns"),
    ],
)
def test_tables_that_cannot_be(images: Path, text: str, message: str) -> None:
    (images / "a.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        opened(table=images / "a.csv")


def test_folders_of_captions_of_classes_and_with_a_table(images: Path) -> None:
    source, said = opened(folder=images)
    assert [source.sample(n).texts[0] for n in (0, 3)] == ["a photo of a cat.", "a photo of a hot dog."]
    assert "4 images of 2 classes" in said[0]
    assert opened(folder=images, class_caption="{}!")[0].sample(0).texts == ("cat!",)
    before = source.manifest_sha256
    (images / "cat/a.txt").write_text("a grey cat\n")
    (images / "hot_dog/d.json").write_text('{"texts": ["lunch", "a dog"]}')
    source, said = opened(folder=images)
    assert [source.sample(n).texts for n in range(2)] == [("a grey cat",), ("lunch", "a dog")]
    assert "left aside: 2 images without" in said[0]
    assert source.manifest_sha256 != before
    (images / "metadata.csv").write_text("file_name,text\ncat/b.PNG,of the table\n")
    source, said = opened(folder=images)
    assert source.sample(0).texts == ("of the table",)
    assert "fewer than data.batch_size (2)" in said[1]
    with pytest.raises(DataError, match="is not a folder"):
        opened(folder=images / "none")
    (images / "flat").mkdir()
    (images / "flat/x.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="no captions"):
        opened(folder=images / "flat")


def test_a_run_on_a_table(dataset: Path, configure: Any, factory: SimpleNamespace, tmp_path: Path) -> None:
    made = [factory.coloured(number, "t") for number in range(12)]
    rows = ["image\tcaption"]
    for each in made:
        (tmp_path / f"{each.key}.jpg").write_bytes(each.image)
        rows += [f"{each.key}.jpg\t{text}" for text in each.texts]
    (tmp_path / "list.csv").write_text("\n".join(rows))
    data = {"table": str(tmp_path / "list.csv"), "batch_size": 6}
    raw = configure(data=data, schedule={"duration": "2 epochs"})
    outcome = fit(parse_settings(raw, TrainConfig, "test"))
    assert outcome.position.samples == 24
    with pytest.raises(ValueError, match=r"data\.table has no splits"):
        held_out_source(DataSettings.model_validate(data), "val")
    with pytest.raises(ValueError, match="exactly one of"):
        DataSettings.model_validate({**data, "dataset": str(dataset)})
