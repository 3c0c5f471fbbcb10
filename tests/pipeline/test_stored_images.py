"""Whole builds of images in every format that a shard can hold, with checksums and boxes: written, read, removed."""

import collections
import hashlib
import io
import itertools
import json
import random
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from support.pictures import picture
from support.serial_engine import SerialEngine
from support.small_build import run
from support.tars import write_tar

import openwit
from openwit.pipeline.api import remove
from openwit.pipeline.dataset.verify import verify_dataset
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.explain.lookup import explain
from openwit.pipeline.recipe import Recipe
from openwit.pipeline.stages.card import Card
from openwit.pipeline.stages.card.settings import CardSettings
from openwit.schemas.common.errors import DataError, OpenWITError
from openwit.schemas.manifest import DatasetManifest
from openwit.training.data.transforms import Preprocess

FORMS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
TURNED = Image.Exif()
TURNED[0x0112] = 8
JOB = Job(SerialEngine())


def body_of(number):
    options = {"exif": TURNED.tobytes()} if FORMS[number % 6] == "JPEG" and number else {}
    return picture(number, (72, 64), FORMS[number % 6], **options)


def rows_of(count=14):
    rows = [
        {"image": body_of(n), "text": f"picture {n}", "split": "val" if n % 5 == 4 else "train"} for n in range(count)
    ]
    again = Image.open(io.BytesIO(body_of(1))).convert("RGB")
    copy = io.BytesIO()
    again.save(copy, "WEBP", lossless=True)
    broken = [body_of(n)[: len(body_of(n)) // 2] for n in (0, 3)]
    rows.append({"image": copy.getvalue(), "text": "the same pixels", "split": "train"})
    return rows + [{"image": each, "text": f"broken {n}", "split": "train"} for n, each in enumerate(broken)]


def build(folder, rows, *, image=None, columns=None, shard=None, inputs=None, dedup=None):
    if inputs is None:
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), folder / "t.parquet")
    steps = [
        {"candidates": {"inputs": inputs or [str(folder / "t.parquet")], "columns": columns or {}}},
        {"fetch": {"image": {"size": 48, **(image or {})}}},
        {"dedup": dedup or {}},
        {"shard": {"samples": 8, **(shard or {})}},
        {"card": {"examples": 2}},
    ]
    run(Recipe.parse({"name": "stored", "steps": steps}, "recipe"), folder / "out")
    return folder / "out" / "dataset"


def metadata(dataset):
    shards = DatasetManifest.load(dataset).shards
    return [row for shard in shards for row in pq.read_table(dataset / shard.metadata.path).to_pylist()]


def funnel(dataset, unit="pairs"):
    steps = [step for step in DatasetManifest.load(dataset).funnel if step.unit == unit]
    for step in steps:
        assert step.rows_in == step.rows_out + sum(step.reasons.values()), step
    return {step.stage: step for step in steps}


def examples(dataset):
    """Every example that a trainer and Python read, upright and RGB."""
    prepare = Preprocess(32)
    found = {}
    for split in ("train", "val"):
        opened = openwit.open_dataset(dataset, split=split)
        for number, example in enumerate(opened):
            assert example.image.mode == "RGB"
            raw = opened.sample(number).image
            assert prepare(raw).shape == (3, 32, 32)
            found[example.key] = example
    return found


CASES = [
    ({"format": "jpg"}, "webdataset"),
    ({"format": "png", "mode": "border"}, "files"),
    ({"format": "webp", "mode": "center_crop"}, "webdataset"),
    ({"keep_bytes": True}, "webdataset"),
    ({"keep_bytes": True, "mode": "no"}, "files"),
    ({"keep_bytes": True, "mode": "keep_ratio_largest"}, "parquet"),
]


@pytest.mark.parametrize(
    ("image", "form"), [CASES[3], *(pytest.param(*case, marks=pytest.mark.slow) for case in CASES if case != CASES[3])]
)
def test_a_dataset_of_each_format_is_written_read_checked_and_removed_from(tmp_path, image, form):
    dataset = build(tmp_path, rows_of(), image=image, shard={"format": form})
    assert verify_dataset(dataset) == []
    kept = metadata(dataset)
    assert len(kept) == 14
    reasons = collections.Counter(
        itertools.chain.from_iterable(s.reasons.items() for s in funnel(dataset, "images").values())
    )
    assert sum(n for _, n in reasons) == 3  # a copy, and two that are broken
    expected = {"jpg", "png", "webp", "gif", "bmp", "tiff"} if "keep_bytes" in image else {image["format"]}
    assert {row["format"] for row in kept} == expected
    found = examples(dataset)
    assert len(found) == 14
    for row in kept:
        assert found[row["key"]].image.size == (row["width"], row["height"])
        assert found[row["key"]].metadata["format"] == row["format"]
    if "keep_bytes" in image and form == "webdataset":
        for shard in DatasetManifest.load(dataset).shards:
            with tarfile.open(dataset / shard.tar.path) as tar:
                bodies = {
                    n.rpartition(".")[0]: tar.extractfile(n).read()
                    for n in tar.getnames()
                    if n[-4:] not in (".txt", "json")
                }
            assert all(
                hashlib.sha256(bodies[row["key"]]).hexdigest() == row["sha256"] for row in kept if row["key"] in bodies
            )
    header = yaml.safe_load((dataset / "README.md").read_text().split("---\n")[1])
    if form == "webdataset":
        names = [feature["name"] for feature in header["dataset_info"][0]["features"]]
        assert names[: len(expected)] == sorted(expected)
    croissant = json.loads((dataset / "croissant.json").read_text())
    if form == "webdataset":
        assert {f"{ending}-files" for ending in expected} <= {each["@id"] for each in croissant["distribution"]}
    [first], _ = explain(dataset, kept[0]["key"])
    assert first.facts["format"] == kept[0]["format"]
    gone = kept[::5]
    remove(dataset, [row["sha256"] for row in gone])
    assert verify_dataset(dataset) == []
    left = metadata(dataset)
    assert [row["key"] for row in left] == [row["key"] for row in kept if row not in gone]
    assert len(examples(dataset)) == len(left)


@pytest.mark.slow
def test_an_image_of_another_format_than_its_name_is_found(tmp_path):
    dataset = build(tmp_path, rows_of(6), image={"format": "png"})
    manifest = DatasetManifest.load(dataset)
    shard = manifest.shards[0]
    table = pq.read_table(dataset / shard.metadata.path)
    other = table.set_column(
        table.column_names.index("format"), table.schema.field("format"), pa.array(["jpg"] * len(table))
    )
    pq.write_table(other, dataset / shard.metadata.path)
    raw = json.loads((dataset / "manifest.json").read_text())
    raw["shards"][0]["metadata"] |= {
        "bytes": (dataset / shard.metadata.path).stat().st_size,
        "sha256": hashlib.sha256((dataset / shard.metadata.path).read_bytes()).hexdigest(),
    }
    (dataset / "manifest.json").write_text(json.dumps(raw))
    assert any("members are not where" in problem for problem in verify_dataset(dataset))


# Checksums and boxes


def test_a_file_of_another_checksum_is_a_reason(tmp_path):
    rows = rows_of(5)[:5]
    for number, row in enumerate(rows):
        body = row["image"]
        row |= {"md5": hashlib.md5(body).hexdigest().upper(), "sum": hashlib.sha256(body).digest()}
        row["url"] = f"https://a.org/{number}"
    rows[1]["md5"] = "0" * 32
    rows[2]["sum"] = b"\0" * 32
    rows[3] |= {"md5": None, "sum": None}
    # Two rows of one image: one of them expects another file.
    rows.append({**rows[4], "text": "another text", "md5": "f" * 32})
    rows.append({**rows[0], "text": "a third text", "md5": "no digits", "url": "https://a.org/9"})
    dataset = build(tmp_path, rows, columns={"md5": "md5", "sha256": "sum"})
    found = funnel(dataset)
    assert found["candidates"].reasons == {"bad_checksum": 1}
    assert found["fetch"].reasons == {"checksum_differs": 3}
    assert funnel(dataset, "images")["fetch"].reasons == {"checksum_differs": 2}
    kept = metadata(dataset)
    assert sorted(row["caption"] for row in kept) == ["picture 0", "picture 3", "picture 4"]
    assert all(len(row["texts"]) == 1 for row in kept)
    assert not {name for row in kept for name in row} & {"md5", "sum", "__md5__", "__sha256__", "columns_by_text"}
    _, drops = explain(dataset, "https://a.org/1")
    assert [(drop.reason, drop.meaning) for drop in drops] == [
        ("checksum_differs", "a file of another checksum than the input gives for it")
    ]
    assert drops[0].detail == f"md5 {hashlib.md5(rows[1]['image']).hexdigest()}, expected {'0' * 32}"
    _, drops = explain(dataset, "https://a.org/4")
    assert [drop.text for drop in drops] == ["another text"]


NOISE = [[0.25, 0.25, 0.75, 0.75]]


def roughness(image):
    pixels = image.convert("L").tobytes()
    return sum(abs(a - b) for a, b in itertools.pairwise(pixels)) / len(pixels)


def noisy(number):
    rng = random.Random(number)
    image = Image.frombytes("L", (64, 64), rng.randbytes(64 * 64)).convert("RGB")
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def boxed_table(folder, kind):
    """Tables of the same rows: boxes as lists, as JSON text, as objects of JSON lines, or in the .json of a tar."""
    boxes = [NOISE, [], None, [[0.0, 0.0, 1.0, 1.0], [0.1, 0.1, 0.2, 0.2]], [[10, 10, 40, 40]], "x"]
    boxes = boxes[:5] if kind == "parquet" else boxes
    folder.mkdir(exist_ok=True)
    rows = [{"image": noisy(n), "text": f"noise {n}", "faces": each} for n, each in enumerate(boxes)]
    if kind == "tar":
        facts = [{"faces": row["faces"]} for row in rows] + [{}]
        parts = [
            (f"{n}.{end}", data)
            for n, fact in enumerate(facts)
            for end, data in (
                ("png", noisy(n)),
                ("txt", f"noise {n}".encode()),
                ("json", json.dumps({"text": f"noise {n}", **fact}).encode()),
            )
        ]
        return write_tar(folder / "t.tar", parts)
    pq.write_table(pa.Table.from_pylist(rows), folder / "t.parquet")
    return folder / "t.parquet"


@pytest.mark.parametrize("kind", ["parquet", pytest.param("tar", marks=pytest.mark.slow)])
def test_boxes_of_a_column_are_blurred(tmp_path, kind):
    path = boxed_table(tmp_path / "in", kind)
    options = {"inputs": [str(path)], "columns": {"blur": "faces"}, "dedup": {"duplicates": "keep"}}
    plain = build(tmp_path / "plain", None, inputs=[str(path)], dedup={"duplicates": "keep"})
    blurred = build(tmp_path / "blurred", None, **options)
    held = build(tmp_path / "held", None, image={"keep_bytes": True}, **options)
    before = {e.texts[0]: roughness(e.image) for e in openwit.open_dataset(plain, split="train")}
    for dataset in (blurred, held):
        after = {e.texts[0]: roughness(e.image) for e in openwit.open_dataset(dataset, split="train")}
        assert sorted(after) == ["noise 0", "noise 1", "noise 2", "noise 3"]
        assert after["noise 3"] < 0.3 * before["noise 3"]
        if dataset == blurred:
            assert after["noise 0"] < 0.9 * before["noise 0"]
        else:
            assert after["noise 0"] < 0.9 * roughness(Image.open(io.BytesIO(noisy(0))))
        assert verify_dataset(dataset) == []
        assert funnel(dataset)["candidates"].reasons == {"bad_boxes": 1 if kind == "parquet" else 3}
    formats = {row["caption"]: row["format"] for row in metadata(held)}
    assert formats == {"noise 0": "jpg", "noise 1": "png", "noise 2": "png", "noise 3": "jpg"}


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_boxes_of_text_tables_reach_the_image(tmp_path, ending):
    from openwit.pipeline.stages.candidates import Candidates
    from openwit.pipeline.stages.candidates.settings import CandidateSettings
    from openwit.schemas.tables.candidates import CANDIDATES, DROPS

    path = tmp_path / f"t.{ending}"
    if ending == "csv":
        path.write_text(
            'url,text,faces\nhttp://a.org/1,one,"[[0.5,0,0.1,1]]"\nhttp://a.org/2,two,\nhttp://a.org/3,three,oh\n'
        )
    else:
        rows = [[[0.5, 0, 0.1, 1]], None, "oh"]
        lines = [
            {"url": f"http://a.org/{n}", "text": t, "faces": f}
            for n, (t, f) in enumerate(zip(("one", "two", "three"), rows, strict=True))
        ]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = CandidateSettings(inputs=[str(path)], columns={"blur": "faces", "keep": ["faces"]})
    Candidates().run(JOB, settings, {}, tmp_path / "c")
    pairs = [row for p in (tmp_path / "c" / "candidates").glob("*") for row in CANDIDATES.read(p).to_pylist()]
    drops = [row for p in (tmp_path / "c" / "drops").glob("*") for row in DROPS.read(p).to_pylist()]
    assert [json.loads(row["columns"] or "{}").get("__blur__") for row in pairs] == [[[0.1, 0.0, 0.5, 1.0]], None]
    assert [(row["reason"], row["detail"]) for row in drops] == [
        ("bad_boxes", "the boxes to blur are no JSON list of boxes")
    ]
    assert [json.loads(row["columns"] or "{}").get("faces") in (None, "") for row in pairs] == [False, True]


def test_what_cannot_be_is_said_before_anything_runs(tmp_path):
    rows = rows_of(2)
    with pytest.raises(DataError, match="has no column 'faces'; it has 'image', 'text', 'split'"):
        build(tmp_path / "a", rows, columns={"blur": "faces"})
    (tmp_path / "urls.txt").write_text("http://a.org/1\n")
    with pytest.raises(OpenWITError, match="is a list of URLs: it has no column 'm'"):
        build(tmp_path / "b", rows, inputs=[str(tmp_path / "urls.txt")], columns={"md5": "m"})
    with pytest.raises(OpenWITError, match="engine img2dataset encodes every image"):
        Recipe.parse(
            {
                "name": "x",
                "steps": [
                    {"candidates": {"inputs": ["t.parquet"]}},
                    {"fetch": {"engine": "img2dataset", "image": {"keep_bytes": True}}},
                    {"shard": {}},
                ],
            },
            "recipe",
        )


@pytest.mark.slow
def test_the_card_is_written_again_for_kept_bytes(tmp_path):
    dataset = build(tmp_path, rows_of(6), image={"keep_bytes": True})
    Card().run(JOB, CardSettings(), {"dataset": dataset}, dataset)
    page = (dataset / "card.html").read_text()
    assert page.count("data:image/jpeg;base64") >= 2
    assert "`KEY.gif`" in (dataset / "README.md").read_text()
