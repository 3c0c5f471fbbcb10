import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from selectolax.lexbor import LexborHTMLParser

from openwit.schemas.common.errors import OpenWITError
from openwit.workflows.demo.concepts import all_concepts
from openwit.workflows.demo.plan import pictures_of
from openwit.workflows.demo.sites import SITES
from openwit.workflows.demo.web import check_complete, copy_wikipedia, make_web

ROOT = Path(__file__).resolve().parents[3]
CONCEPTS = 24


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "openwit.workflows.demo", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_killed_run_is_completed_to_the_same_bytes(web, tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-m", "openwit.workflows.demo", "make-web", "--out", tmp_path, "--concepts", str(CONCEPTS)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    pictures = tmp_path / "web" / "clipart" / "img"
    while child.poll() is None and not (pictures.exists() and any(pictures.iterdir())):
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    with pytest.raises(OpenWITError, match="is not finished; go on with"):
        check_complete(tmp_path / "web")
    assert len(tree(tmp_path / "web")) < len(tree(web))
    assert make_web(tmp_path / "web", CONCEPTS, workers=1).made
    assert tree(tmp_path / "web") == tree(web)


def test_a_complete_web_is_left_alone_and_a_damaged_one_repaired(web, tmp_path):
    copy = tmp_path / "web"
    shutil.copytree(web, copy)
    assert not make_web(copy, CONCEPTS).made
    victim = next((copy / "stickers" / "media").iterdir())
    victim.write_bytes(b"")
    os.remove(copy / "shop" / "index.html")
    assert make_web(copy, CONCEPTS, workers=1).made
    assert tree(copy) == tree(web)


def test_another_web_is_refused_and_made_anew_on_demand(web, tmp_path):
    copy = tmp_path / "web"
    shutil.copytree(web, copy)
    with pytest.raises(
        OpenWITError, match=r"holds a web made otherwise \(concepts changed\); make it again with --fresh"
    ):
        make_web(copy, 2)
    assert tree(copy) == tree(web)
    assert make_web(copy, 2, fresh=True, workers=1).made


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "thesis.txt").write_text("mine")
    result = run("make-web", "--out", str(tmp_path), "--concepts", "2", "--fresh")
    assert (result.returncode, result.stdout) == (2, "")
    assert "holds something other than a demo web; choose another --out" in result.stderr
    assert result.stderr.count("\n") == 1
    assert [path.name for path in (tmp_path / "web").iterdir()] == ["thesis.txt"]


def test_serving_what_is_not_there(tmp_path):
    result = run("serve", "--out", str(tmp_path), "--port", "0")
    assert result.returncode == 2
    assert "holds no web; make it with: python -m openwit.workflows.demo make-web" in result.stderr


def test_declared_pictures_are_what_the_files_are(web, declared):
    absent = {"missing", "gone", "error", "refused", "markup"}
    for picture in declared:
        path = web / picture["file"]
        assert path.exists() == (picture["fault"] not in absent), picture
        if picture["fault"] in ("none", "text", "moved", "cut"):
            with Image.open(path) as image:
                image.load()
        elif picture["fault"] == "truncated":
            with pytest.raises(OSError, match=r"truncated|cannot identify|broken"), Image.open(path) as image:
                image.load()


def test_every_page_credits_openmoji(web):
    pages = [*web.rglob("*.html"), *web.rglob("*.htm")]
    assert len(pages) > 18
    for page in pages:
        links = LexborHTMLParser(page.read_bytes()).css("a[rel=license]")
        assert [link.attributes["href"] for link in links] == ["https://creativecommons.org/licenses/by-sa/4.0/"], page
        assert b"OpenMoji" in page.read_bytes()
    assert "CC BY-SA 4.0" in (web / "CREDITS").read_text()


def test_page_encodings(web):
    assert "Картинки для детей" in (web / "kartinki" / "index.html").read_bytes().decode("cp1251")
    assert b"charset" not in (web / "kartinki" / "index.html").read_bytes()
    japanese = (web / "irasuto" / "index.html").read_bytes()
    assert "イラスト" in japanese.decode("shift_jis")
    assert b"charset=shift_jis" in japanese


def test_faults_and_odd_texts_stay_a_small_share():
    pictures = [picture for site in SITES for picture in pictures_of(site, all_concepts())]
    assert 10_000 < len(pictures) < 13_000
    dead = sum(picture.fault not in ("none", "text", "moved") for picture in pictures)
    refused = sum(picture.site.name in ("private", "flaky", "noai") for picture in pictures)
    assert 0.02 < (dead + refused) / len(pictures) < 0.08
    held_out = [picture for picture in pictures if picture.site.role == "held out"]
    assert 500 <= len(held_out) <= 700
    assert {picture.fault for picture in held_out} == {"none"}
    assert len({picture.address for picture in pictures}) == len(pictures)


def test_wikipedia_is_copied_without_importing_gensim(tmp_path):
    target = tmp_path / "wikipedia" / "dump.bz2"
    copy_wikipedia(target)
    assert target.read_bytes()[:3] == b"BZh"
    assert "gensim" not in sys.modules


def test_state_is_readable_by_others(web):
    state = json.loads((web / "web.json").read_text())
    assert state["complete"] is True
    assert state["pictures"] == sum(state["faults"].values())
    assert state["files"] == len((web / "files.tsv").read_text().splitlines())
