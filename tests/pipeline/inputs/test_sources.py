"""What each source consists of, and the command that fetches it from a mirror on loopback."""

import gzip
import hashlib
import io
import json
import signal
import subprocess
import sys
import tarfile
import time
from collections import namedtuple
from pathlib import Path

import pytest
from support.mirror import mirror_of
from typer.testing import CliRunner

from openwit.pipeline.cli.main import app
from openwit.pipeline.inputs import client, fetch, sources
from openwit.pipeline.inputs.settings import parse_wanted, wanted
from openwit.pipeline.inputs.wordnet import unpack_wordnet
from openwit.pipeline.recipe import Recipe
from openwit.pipeline.recipe_schema import recipe_schema
from openwit.pipeline.stages.queries.sources import read_wordnet
from openwit.schemas.common.errors import DataError, RecipeError
from openwit.schemas.common.settings import parse_yaml

CRAWL = "CC-MAIN-2024-22"


def tar_of(members: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:bz2") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return out.getvalue()


def index(word: str) -> bytes:
    return f"  1 licence\n{word} n 1 0 1 0 00001740\n".encode()


WORDNET = tar_of(
    {f"WordNet-3.0/dict/index.{kind}": index(kind) for kind in ("noun", "verb", "adj", "adv")}
    | {"WordNet-3.0/README": b"x", "../../evil/data.noun": b"data"}
)


def published() -> dict[str, bytes]:
    paths = [f"crawl-data/{CRAWL}/segments/{n}/warc/CC-{n:05d}.warc.gz" for n in range(40)]
    dump, parts = b"BZh dump", {1: b"BZh one", 2: b"BZh two"}
    names = {f"enwiki-20240501-pages-articles-multistream{n}.xml-p{n}p{n}9.bz2": data for n, data in parts.items()}
    names["enwiki-20240501-pages-articles-multistream.xml.bz2"] = dump
    sums = "".join(f"{hashlib.sha1(data).hexdigest()}  {name}\n" for name, data in names.items()).encode()
    views = {f"pageviews-20240501-{hour:02d}0000.gz": gzip.compress(b"en A %d 0\n" % hour) for hour in range(24)}
    views["pageviews-20240502-000000.gz"] = gzip.compress(b"en B 1 0\n")
    return {
        f"crawl-data/{CRAWL}/warc.paths.gz": gzip.compress("\n".join(paths).encode()),
        **{path: path.encode() * 20 for path in paths},
        "collinfo.json": json.dumps([{"id": f"CC-MAIN-2024-{n}"} for n in (30, 26, 22, 18)]).encode(),
        "enwiki/latest/enwiki-latest-sha1sums.txt": sums,
        "enwiki/20240501/enwiki-20240501-sha1sums.txt": sums,
        **{f"enwiki/20240501/{name}": data for name, data in names.items()},
        **{f"other/pageviews/2024/2024-05/{name}": data for name, data in views.items()},
        "WordNet-3.0.tar.bz2": WORDNET,
    }


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "WORDNET_SHA256", hashlib.sha256(WORDNET).hexdigest())
    quick = client.Patience(attempts=3, first_attempts=2, first_s=0.001, longest_s=0.002, silent_s=5)
    monkeypatch.setattr(client, "Patience", lambda: quick)
    with mirror_of(published()) as served:
        yield served


def wit(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["inputs", *words])
    return done.exit_code, done.stdout if done.exception is None or done.exit_code == 0 else str(done.exception)


def recipe_of(url: str) -> str:
    return (
        "name: x\ninputs:\n"
        f"- commoncrawl: {{files: 2, base: '{url}', index: '{url}collinfo.json'}}\n"
        f"- wikipedia: {{base: '{url}'}}\n"
        f"- pageviews: {{day: 2024-05-01, hours: 3, base: '{url}'}}\n"
        f"- wordnet: {{base: '{url}'}}\n"
        "steps:\n- queries: {wordnet: inputs/wordnet/dict}\n"
    )


def test_a_recipe_is_fetched_once_and_told_before(mirror, tmp_path):
    Path("r.yaml").write_text(recipe_of(mirror.url))
    code, told = wit("r.yaml", "--dry-run")
    assert code == 0
    assert "8 files to fetch, " in told
    assert told.count(" from http://") == 8
    assert not Path("inputs").exists()
    code, refused = wit("r.yaml")  # nobody answers the question
    assert code == 1
    assert "would be fetched: add --yes" in refused
    code, told = wit("r.yaml", "--yes")
    assert code == 0, told
    assert "Fetched 8 files" in told
    assert "unpacked 5 files to inputs/wordnet/dict" in told
    assert read_wordnet(Path("inputs/wordnet/dict")) == ["adj", "adv", "noun", "verb"]
    assert not (tmp_path.parent / "evil").exists()
    assert len(list(Path("inputs/commoncrawl").glob("CC-*.warc.gz"))) == 2
    assert Path("inputs/wikipedia/enwiki-latest-pages-articles-multistream.xml.bz2").read_bytes() == b"BZh dump"
    assert not list(Path("inputs").rglob(".partial-*"))
    mirror.asked.clear()
    assert wit("r.yaml", "--yes") == (0, "Nothing to fetch; 8 files there already.\n")
    assert mirror.asked == []  # not even a question


def test_more_files_of_a_crawl_only_add(mirror):
    few = sources.list_files(client.Client(), wanted("commoncrawl", {"files": 3, "base": mirror.url}, ""))
    more = sources.list_files(client.Client(), wanted("commoncrawl", {"files": 9, "base": mirror.url}, ""))
    assert few.files == more.files[:4]
    with pytest.raises(RecipeError, match="41, but the crawl has 40 warc files"):
        sources.list_files(client.Client(), wanted("commoncrawl", {"files": 41, "base": mirror.url}, ""))


def test_sizes_of_many_files_are_estimated(mirror, monkeypatch):
    monkeypatch.setattr(fetch, "_ASKED", 3)
    code, told = wit("commoncrawl", "--files", "10", "--base", mirror.url, "--dry-run")
    assert code == 0
    assert "11 files to fetch, about " in told
    assert sum(method == "HEAD" for method, _, _ in mirror.asked) == 3


def test_parts_and_dates_of_a_dump(mirror):
    code, _ = wit("wikipedia", "--parts", "1", "--date", "20240501", "--base", mirror.url, "--to", "w", "--yes")
    assert code == 0
    assert [path.name for path in Path("w").glob("enwiki*")] == [
        "enwiki-20240501-pages-articles-multistream1.xml-p1p19.bz2"
    ]
    assert "the dump has 2 parts" in wit("wikipedia", "--parts", "3", "--base", mirror.url, "--yes")[1]
    mirror.files["enwiki/20240501/enwiki-20240501-pages-articles-multistream.xml.bz2"] = b"other"
    code, problem = wit("wikipedia", "--base", mirror.url, "--yes")
    assert "has the sha1" in problem
    assert not list(Path("inputs/wikipedia").glob("enwiki*"))


def test_page_views_run_over_the_end_of_a_day(mirror):
    listing = sources.list_files(client.Client(), wanted("pageviews", {"hours": 25, "base": mirror.url}, ""))
    assert [listing.files[at].target.name for at in (0, 24)] == [
        "pageviews-20240501-000000.gz",
        "pageviews-20240502-000000.gz",
    ]


def test_an_unknown_crawl_is_said_with_near_ones(mirror):
    base = ("--base", mirror.url, "--set", f"index={mirror.url}collinfo.json")
    _, problem = wit("commoncrawl", "--crawl", "CC-MAIN-2024-23", *base)
    assert problem.startswith("there is no crawl CC-MAIN-2024-23 at http://127.0.0.1")
    assert problem.endswith("near to it there are CC-MAIN-2024-18, CC-MAIN-2024-22, CC-MAIN-2024-26, CC-MAIN-2024-30")
    _, problem = wit(
        "commoncrawl", "--crawl", "CC-MAIN-2024-23", "--base", mirror.url, "--set", "index=http://127.0.0.1:9/"
    )
    assert "cannot be read)" in problem


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["wikipdia"], "no source is named 'wikipdia'; did you mean 'wikipedia'"),
        (["wordnet", "--hours", "2"], "wordnet takes no --hours (it takes: to, base)"),
        (["wikipedia", "--language", "xx", "--base", "URL"], "there is no dump xxwiki latest at"),
        (["wikipedia", "--date", "2024"], "wikipedia.date"),
        (["pageviews", "--day", "2024-02-30"], "2024-02-30 is no day"),
        (["pageviews", "--day", "9999-12-31"], "must be a day from 2015-05-01"),
        (["pageviews", "--hours", "26", "--base", "URL"], "pageviews-20240502-010000.gz does not exist (HTTP 404)"),
        (["commoncrawl", "--to", "s3://bucket/x"], "must be a folder of this machine"),
        (["files", "--url", "ftp://x/y"], "is no http(s) address of a file"),
        (["r.yaml", "--files", "3"], "--files belongs to one source"),
        (["r.yaml", "--set", "nothing.x=1"], "the recipe's sources: wordnet"),
        (["none.yaml"], "r.yaml names no inputs to fetch: add the key `inputs`"),
        (["commoncrawl", "--recipe", "r.yaml"], "r.yaml names no commoncrawl under its key `inputs`"),
    ],
)
def test_bad_input_is_one_sentence(mirror, words, sentence):
    steps = "steps:\n- queries: {wordnet: builtin}\n"
    Path("r.yaml").write_text(f"name: x\ninputs: [wordnet]\n{steps}")
    Path("none.yaml").write_text(f"name: x\n{steps}")
    code, said = wit(*(word.replace("URL", mirror.url) for word in words))
    assert code != 0
    assert sentence.replace("r.yaml names no inputs", "none.yaml names no inputs") in said
    assert "\n" not in said


def test_another_file_in_the_place_is_left_alone(mirror):
    Path("w").mkdir()
    Path("w/WordNet-3.0.tar.bz2").write_bytes(b"mine")
    _, problem = wit("wordnet", "--base", mirror.url, "--to", "w", "--yes")
    assert "w/WordNet-3.0.tar.bz2 has 4 bytes, but " in problem
    assert Path("w/WordNet-3.0.tar.bz2").read_bytes() == b"mine"


def test_a_disk_without_room_is_said_before(mirror, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda _: usage(9, 9, 1000))
    _, problem = wit("wordnet", "--base", mirror.url, "--yes")
    assert "0.0 GB free" in problem
    assert mirror.gets("WordNet-3.0.tar.bz2") == []


def test_own_files_with_checksums(mirror):
    mirror.files["x/list.txt"] = b"a\n"
    Path("r.yaml").write_text(
        f"name: x\ninputs:\n- files: {{urls: ['{mirror.url}x/list.txt'], sha256: {{list.txt: {'ab' * 32}}}}}\n"
        "steps:\n- queries: {wordnet: builtin}\n"
    )
    assert "has the sha256" in wit("r.yaml", "--yes")[1]
    digest = hashlib.sha256(b"a\n").hexdigest()
    assert wit("files", "--url", f"{mirror.url}x/list.txt", "--set", f"sha256={{list.txt: {digest}}}", "--yes")[0] == 0
    assert Path("inputs/list.txt").read_bytes() == b"a\n"


def test_an_archive_that_is_not_wordnets_leaves_nothing(tmp_path):
    links = {"dict/index.noun": "/etc/passwd"}
    for n, data in enumerate((tar_of({"dict/index.verb": b"x"}, links), WORDNET[: len(WORDNET) // 2], b"no tar")):
        archive = tmp_path / f"{n}.tar.bz2"
        archive.write_bytes(data)
        with pytest.raises(DataError, match="is not WordNet's|cannot be unpacked"):
            unpack_wordnet(archive, tmp_path / "dict")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.tar.bz2", "1.tar.bz2", "2.tar.bz2"]


def test_the_key_inputs_is_checked_with_the_recipe_and_no_part_of_the_build():
    steps = [{"queries": {"wordnet": "builtin"}}]
    recipe = Recipe.parse({"name": "x", "inputs": ["wordnet", {"commoncrawl": {"files": 3}}], "steps": steps})
    assert [each.source for each in recipe.inputs] == ["wordnet", "commoncrawl"]
    assert recipe.to_dict() == Recipe.parse({"name": "x", "steps": steps}).to_dict()
    for entry in ({"commoncrawl": {"file": 3}}, {"commoncrawl": {"files": 0}}, {"a": {}, "b": {}}, 3):
        with pytest.raises(RecipeError, match="inputs, entry 1"):
            parse_wanted([entry], "r.yaml")
    assert {"wordnet"} <= set(recipe_schema()["properties"]["inputs"]["items"]["anyOf"][0]["enum"])
    assert parse_yaml(b"inputs: []", "x") == {"inputs": []}


@pytest.mark.slow
def test_ctrl_c_keeps_what_arrived(tmp_path):
    """A signal ends the command at once; the same command goes on where it stopped."""
    data = bytes(3 << 20)
    with mirror_of({"big.bin": data}) as mirror:
        held = {"big.bin": True}
        mirror.fault = lambda path, _number: "cut" if held[path] else ""
        command = [
            sys.executable,
            "-m",
            "openwit.pipeline",
            "inputs",
            "files",
            "--url",
            f"{mirror.url}big.bin",
            "--yes",
        ]
        running = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        partial = tmp_path / "inputs" / ".partial-big.bin"
        for _ in range(400):
            if partial.exists() and partial.stat().st_size > 1 << 20:
                break
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=30)
        assert running.returncode == 130, said
        assert "run the same command to resume" in said
        there = partial.stat().st_size
        held["big.bin"] = False
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert mirror.gets("big.bin")[-1] == f"bytes={there}-"
    assert (tmp_path / "inputs" / "big.bin").read_bytes() == data
