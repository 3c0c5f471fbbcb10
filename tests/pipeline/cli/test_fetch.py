"""`wit fetch` from lists and tables to shards: each row of the page on img2dataset's options, and what goes wrong."""

import hashlib
import importlib.util
import inspect
import io
import json
import re
import sys
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from PIL import Image, ImageStat
from support.doc_pages import ROOT, words
from support.pictures import picture

import openwit
from openwit.pipeline.cli.main import app, main
from openwit.pipeline.dataset.verify import verify_dataset
from openwit.pipeline.explain.lookup import explain
from openwit.schemas.manifest import DatasetManifest
from openwit.schemas.tables.images import IMAGES

PAGE = (ROOT / "docs" / "from-img2dataset.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| `(\w+)` \| (.+?) \| .*\|$", PAGE, re.MULTILINE))
# Of img2dataset 1.47.0's `download`.
OPTIONS = """
    url_list image_size output_folder processes_count resize_mode resize_only_if_bigger upscale_interpolation
    downscale_interpolation encode_quality encode_format skip_reencode output_format input_format url_col
    caption_col bbox_col thread_count number_sample_per_shard extract_exif save_additional_columns timeout
    enable_wandb wandb_project oom_shard_count compute_hash verify_hash distributor subjob_size retries
    disable_all_reencoding min_image_size max_image_area max_aspect_ratio incremental_mode max_shard_retry
    user_agent_token disallowed_header_directives
""".split()  # noqa: SIM905
LOCAL = ("--workers", "1", "--set", "download.allow_networks=[127.0.0.0/8]", "--set", "outage_retries=0")
FETCH = typer.main.get_command(app).commands["fetch"]  # type: ignore[attr-defined]


@pytest.fixture
def wit(capsys, monkeypatch):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["wit", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return run


@pytest.fixture
def table(web, tmp_path):
    """Nine rows of a CSV: pictures of several sizes, one in PNG, one dead; and what it is called."""
    rows = ["link,alt,author,score,name"]
    for n in range(9):
        if n != 4:
            body = picture(n, (90 + 10 * n, 80), "PNG" if n == 2 else "JPEG")
            fields = {"X_Robots_Tag": "noai"} if n == 7 else {}
            web.pages[f"/{n}.jpg"] = lambda page, body=body, fields=fields: page.reply(200, body, **fields)
        rows.append(f'{web.url(f"/{n}.jpg")},"wren {n}, ""the""",a{n % 2},{n / 2},k{n}')
    (tmp_path / "urls.csv").write_text("\n".join(rows))
    return tmp_path / "urls.csv"


def samples(dataset):
    tables = [pq.read_table(dataset / shard.metadata.path) for shard in DatasetManifest.load(dataset).shards]
    return pa.concat_tables(tables).to_pylist()


def test_the_page_has_a_row_for_each_option_and_its_options_exist():
    assert sorted(ROWS) == sorted(OPTIONS)
    if importlib.util.find_spec("img2dataset") is not None:
        from img2dataset.main import download

        assert list(inspect.signature(download).parameters) == OPTIONS
    for name, cell in ROWS.items():
        for shown in re.findall(r"`([^`]+)`", cell):
            assert shown.startswith("--"), name
            FETCH.make_context("fetch", ["urls.csv", "--out", "birds", *words(shown)], resilient_parsing=False)


def test_a_table_becomes_files_in_its_order(table, wit, tmp_path, web):
    """url_list, output_folder, output_format, input_format, caption_col, save_additional_columns, and their kin."""
    out = tmp_path / "birds"
    command = ["fetch", table, "--out", out, "--format", "files", "--samples", "5", "--size", "48", *LOCAL]
    command += ["--url-col", "link", "--caption-col", "alt", "--keep-col", "author", "--keep-col", "score"]
    command += ["--retries", "0", "--timeout", "5", "--threads", "4", "--user-agent", "my-lab/1.0: (+https://my.lab)"]
    code, printed, err = wit(*command)
    assert (code, err) == (0, "")
    assert "Success: 7 of 9 images (77.8%); " in printed
    assert "http_not_found 1" in printed
    assert "opted_out 1" in printed
    assert verify_dataset(out) == []
    found = samples(out)
    assert [row["caption"] for row in found] == [f'wren {n}, "the"' for n in (0, 1, 2, 3, 5, 6, 8)]
    assert [(row["author"], row["score"]) for row in found] == [(f"a{n % 2}", n / 2) for n in (0, 1, 2, 3, 5, 6, 8)]
    assert {row["height"] for row in found} == {48}
    assert (out / "train" / "00000" / "0000000000.txt").read_text() == 'wren 0, "the"'
    assert json.loads((out / "train" / "00000" / "0000000000.json").read_text())["author"] == "a0"
    assert {headers["User-Agent"] for headers in web.headers} == {"my-lab/1.0: (+https://my.lab)"}
    assert web.asked("/4.jpg") == 1
    _, dropped = explain(out, web.url("/4.jpg"))
    assert [drop.reason for drop in dropped] == ["http_not_found"]
    asked = len(web.requests)
    code, printed, _ = wit(*command)
    assert (code, len(web.requests)) == (0, asked)
    assert "Nothing to do" in printed
    code, _, err = wit(*command, "--quality", "80")
    assert code == 2
    assert "holds another recipe's build (fetch.image.quality was 95, now 80)" in err


def test_other_modes_and_limits(table, wit, tmp_path, web):
    """resize_mode, resize_only_if_bigger, encode_quality, min_image_size, max_image_area, max_aspect_ratio."""
    out = tmp_path / "p"
    options = (
        "--resize-mode border --enlarge --size 160 --quality 50 --min-size 1 --max-pixels 11000 --max-aspect-ratio 2"
    )
    code, printed, err = wit(
        "fetch", "--input", table, "--out", out, "--format", "parquet", *LOCAL, *words(options), "--keep-col", "all",
        "--key-col", "name", "--url-col", "link", "--no-robots", "--no-opt-outs", "--order", "shuffled", "--seed", "3",
        "--name", "mine", "--set", "fetch.task=50000", "--set", "shard.samples=100", "--workers", "1",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert web.asked("/robots.txt") == 0
    found = samples(out)
    assert {(row["width"], row["height"]) for row in found} == {(160, 160)}
    assert sorted(row["key"] for row in found) == ["k0", "k1", "k2", "k3"]
    assert "too_many_pixels" in printed
    assert len(openwit.open_dataset(str(out))) == len(found)
    assert DatasetManifest.load(out).name == "mine"
    assert "name" in found[0] or "key_input" in found[0]


def members(dataset):
    """Bytes of the members of all tars, by name."""
    found = {}
    for shard in DatasetManifest.load(dataset).shards:
        with tarfile.open(dataset / shard.tar.path) as tar:
            found |= {member.name: tar.extractfile(member).read() for member in tar.getmembers()}
    return found


@pytest.mark.slow
def test_formats_boxes_checksums_bytes_and_retries(web, wit, tmp_path):
    """encode_format, bbox_col, extract_exif, verify_hash, retries, disable_all_reencoding, and running again."""
    exif = Image.Exif()
    exif[0x010F] = "Kestrel"  # the camera's maker
    bodies = {n: picture(n, (100, 80), exif=exif) for n in range(5)}
    down = {"/3.jpg": 1, "/4.jpg": 9}  # answers of 503 before the picture

    def serve(page, path, body):
        down[path] = down.get(path, 0) - 1
        page.reply(*((503,) if down[path] >= 0 else (200, body)))

    for n, body in bodies.items():
        web.pages[f"/{n}.jpg"] = lambda page, path=f"/{n}.jpg", body=body: serve(page, path, body)
    sums = [hashlib.sha256(body).hexdigest() for body in bodies.values()]
    rows = {
        "url": [web.url(f"/{n}.jpg") for n in bodies],
        "text": [f"wren {n}" for n in bodies],
        "boxes": [[[0.0, 0.0, 1.0, 1.0]], None, None, None, None],
        "md5": [hashlib.md5(body).hexdigest() for body in bodies.values()],
        "sha256": [*sums[:2], "0" * 64, *sums[3:]],
    }
    pq.write_table(pa.table(rows), tmp_path / "t.parquet")
    out = tmp_path / "d"
    command = ["fetch", tmp_path / "t.parquet", "--out", out, "--format", "webdataset", *LOCAL, "--no-robots"]
    command += ["--size", "64", "--set", "candidates.columns.md5=md5", "--set", "candidates.columns.blur=boxes"]
    command += ["--set", "download.backoff_s=0.01"]
    shown = importlib.util.find_spec("exifread") is not None
    first = [*command, "--retries", "1", "--set", "image.format=webp", "--set", f"image.exif={str(shown).lower()}"]
    code, printed, err = wit(*first)
    assert (code, err) == (0, "")
    assert "Success: 4 of 5" in printed
    assert [web.asked(f"/{n}.jpg") for n in range(5)] == [1, 1, 1, 2, 2]
    assert [row["format"] for row in samples(out)] == ["webp"] * 4
    if shown:
        assert {json.loads(row["exif"])["Image Make"] for row in samples(out)} == {"Kestrel"}
    pictures = [Image.open(io.BytesIO(body)) for name, body in members(out).items() if name.endswith(".webp")]
    assert {(image.format, image.size) for image in pictures} == {("WEBP", (80, 64))}
    spread = [ImageStat.Stat(image.convert("L")).stddev[0] for image in pictures]
    before = [ImageStat.Stat(Image.open(io.BytesIO(bodies[n])).convert("L")).stddev[0] for n in range(4)]
    blurred = [now / then < 0.75 for now, then in zip(spread, before, strict=True)]
    assert blurred == [True, False, False, False], (spread, before)

    down["/4.jpg"] = 0
    code, printed, err = wit(*first, "--retry-failed")
    assert (code, err) == (0, "")
    assert "Success: 5 of 5" in printed
    assert [row["caption"] for row in samples(out)] == rows["text"]

    second = [*command, "--set", "image.keep_bytes=true", "--set", "candidates.columns.sha256=sha256", "--replace"]
    code, printed, err = wit(*second)
    assert (code, err) == (0, "")
    assert "checksum_differs 1" in printed
    assert [row["caption"] for row in samples(out)] == ["wren 0", "wren 1", "wren 3", "wren 4"]
    stored = [body for name, body in members(out).items() if name.endswith(".jpg")]
    assert stored[1:] == [bodies[1], bodies[3], bodies[4]]
    assert stored[0] != bodies[0]  # it has a box, so it is encoded
    assert verify_dataset(out) == []


@pytest.mark.slow
def test_a_key_of_two_rows_is_refused_before_any_image_is_fetched(table, wit, tmp_path, web):
    table.write_text(table.read_text().replace("k1", "k0"))
    command = ["fetch", table, "--out", tmp_path / "d", "--format", "files", *LOCAL, "--url-col", "link"]
    code, _, err = wit(*command, "--key-col", "name")
    assert (code, err.count("\n")) == (2, 1)
    assert "several samples have the key 'k0' of their inputs (1 key): set shard.keys to number" in err
    assert web.requests == []


@pytest.mark.parametrize("form", ["webdataset", pytest.param("parquet", marks=pytest.mark.slow)])
def test_a_list_of_urls_has_no_captions(web, wit, tmp_path, form):
    for n in range(3):
        web.pages[f"/{n}.jpg"] = lambda page, n=n: page.reply(200, picture(n))
    (tmp_path / "urls.txt").write_text("".join(f"{web.url(f'/{n}.jpg')}\n" for n in range(3)))
    code, _, err = wit("fetch", tmp_path / "urls.txt", "--out", tmp_path / "d", "--format", form, *LOCAL)
    assert (code, err) == (0, "")
    assert [row["caption"] for row in samples(tmp_path / "d")] == ["", "", ""]
    assert verify_dataset(tmp_path / "d") == []


def test_without_a_format_it_writes_what_dedup_reads(table, wit, tmp_path):
    code, printed, err = wit("fetch", table, "--out", tmp_path / "f", *LOCAL, "--url-col", "link", "--size", "40")
    assert (code, err) == (0, "")
    assert "Success: 7 of 9" in printed
    rows = [row for path in (tmp_path / "f" / "images").glob("*.parquet") for row in IMAGES.read(path).to_pylist()]
    assert len(rows) == 7
    assert {row["height"] for row in rows} == {40}
    assert (
        "Nothing to do" in wit("fetch", table, "--out", tmp_path / "f", *LOCAL, "--url-col", "link", "--size", "40")[1]
    )
    selected = tmp_path / "f.work" / "stages" / "select"
    code, _, err = wit("fetch", "--input", selected, "--out", tmp_path / "again", *LOCAL, "--size", "40")
    assert (code, err) == (0, "")
    assert (tmp_path / "again" / "hosts.parquet").exists()
    code, _, err = wit("fetch", "--input", selected, "--out", tmp_path / "no", "--url-col", "x")
    assert (code, err.count("\n")) == (2, 1)
    assert "is the folder of a finished stage, to which candidates.columns.url does not apply" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name an input: a list of URLs"),
        (["urls.csv"], "wit fetch: missing option '--out'"),
        (["urls.csv", "--out", "d", "--samples", "3"], "shard.samples is a setting of shards: choose their --format"),
        (["nothing.csv", "--out", "d", "--format", "files"], "nothing.csv does not exist"),
        (["urls.csv", "--out", "d", "--format", "tfrecord"], "'tfrecord' is not one of 'webdataset', 'files'"),
        (["urls.csv", "--out", "d", "--format", "files", "--url-col", "nope"], "has no column 'nope'; it has 'link'"),
        (["urls.csv", "--out", "d", "--format", "files", "--keep-col", "nope"], "no input has the column 'nope'"),
        (
            ["urls.csv", "--out", "d", "--format", "files", "--set", "image.sice=3"],
            "unknown key 'fetch.image.sice'; did you mean 'size'",
        ),
        (["urls.csv", "--out", "d", "--format", "files", "--quality", "101"], "quality"),
        (["urls.csv", "--out", "d", "--format", "files", "--timeout", "-1"], "--timeout"),
        (["urls.csv", "--out", ".", "--format", "files"], "overlap"),
        (["empty.txt", "--out", "d", "--format", "files"], "the inputs hold no usable (image, text) pair"),
        (["d.png", "--out", "d", "--format", "files"], "is an image: name its folder"),
    ],
)
@pytest.mark.usefixtures("table")
def test_bad_input_is_one_sentence_and_leaves_nothing(wit, tmp_path, arguments, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "d.png").write_bytes(b"x")
    code, _, err = wit("fetch", *arguments, "--workers", "1")
    assert (code, err.count("\n")) == (2, 1)
    assert message in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.png", "empty.txt", "urls.csv"]
