"""Fetch killed in the middle of a chunk, and run again."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from support.picture_web import settings, spread_over_hosts, sums

from openwit.pipeline.execution.tasks import RESULTS
from openwit.pipeline.stages.fetch import Fetch
from openwit.pipeline.stages.fetch.chunk import CHUNKS
from openwit.pipeline.stages.fetch.log import FETCH_LOG

pytestmark = pytest.mark.usefixtures("no_query_counts")

RUN = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from openwit.pipeline.execution.runners import make_engine
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.stages.fetch.settings import FetchSettings
from openwit.pipeline.stages.fetch import Fetch
from openwit.pipeline.stages.fetch import stage as fetch
fetch.copy_query_counts = lambda *_: []
settings = FetchSettings.model_validate_json(sys.argv[2])
Fetch().run(Job(make_engine("local", 1)), settings, {"selected": Path(sys.argv[3])}, Path(sys.argv[4]))
"""
CHUNK = 30


def asked(web):
    return [path for _, path in web.asked if path != "/robots.txt"]


@pytest.mark.parametrize("after", [1, 12, 29])
def test_a_kill_in_a_chunk_changes_no_byte_and_keeps_the_chunks_before(tmp_path, job, select, web, after):
    """`after`: URLs of the second chunk that were asked for when the kill comes."""
    chosen = settings(download={"concurrency": 2})
    source = select(tmp_path / "s", {n: spread_over_hosts(web, CHUNK, first=CHUNK * n) for n in range(3)})
    web.statuses["/40.jpg"] = 404
    web.start()
    whole, _ = Fetch().run(job, chosen, {"selected": source}, tmp_path / "whole")
    web.asked.clear()
    web.stop()
    web.delay = 0.01
    web.start()
    folder = tmp_path / "killed"
    arguments = [str(Path(__file__).parents[4] / "src"), chosen.model_dump_json(), str(source), str(folder)]
    process = subprocess.Popen([sys.executable, "-c", RUN, *arguments])
    while len(asked(web)) < CHUNK + after:
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = sorted(path.stem for path in (folder / RESULTS).glob("*.json"))
    # With one worker the second chunk was cut off; with more, others may be done or not.
    assert len(done) < 3
    kept = {name: (folder / "images" / f"{name}.parquet").stat().st_mtime_ns for name in done}
    web.asked.clear()
    manifest, did = Fetch().run(job, chosen, {"selected": source}, folder)
    assert did
    assert manifest == whole
    assert sums(folder, "images", "drops") == sums(tmp_path / "whole", "images", "drops")
    assert {name: (folder / "images" / f"{name}.parquet").stat().st_mtime_ns for name in done} == kept
    finished = {f"/{CHUNK * int(name) + n}.jpg" for name in done for n in range(CHUNK)}
    assert not finished & set(asked(web))
    assert set(asked(web)) | finished == {f"/{n}.jpg" for n in range(3 * CHUNK)}
    assert not list(folder.rglob(".partial-*"))


@pytest.mark.parametrize("after", [5, 120])
def test_a_kill_in_a_large_host_loses_at_most_the_open_chunks(tmp_path, job, select, web, after):
    """One host, one task, many chunks, each finished on its own."""
    opened, urls = 3, 240
    chosen = settings(chunk=20, task=1000, open_chunks=opened, download={"per_host": 4, "robots": False})
    source = select(tmp_path / "s", {0: [web.url("big.localhost", n) for n in range(urls)]})
    web.start()
    whole, _ = Fetch().run(job, chosen, {"selected": source}, tmp_path / "whole")
    web.asked.clear()
    web.stop()
    web.delay = 0.01
    web.start()
    folder = tmp_path / "killed"
    dump = json.dumps(chosen.model_dump(mode="json") | {"open_chunks": opened})
    arguments = [str(Path(__file__).parents[4] / "src"), dump, str(source), str(folder)]
    process = subprocess.Popen([sys.executable, "-c", RUN, *arguments])
    while len(asked(web)) < after:
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = Counter(asked(web))
    done = {path.stem for path in (folder / CHUNKS).glob("[!.]*.json")}  # not one that the kill cut off
    finished = {url for name in done for url in fetched(folder, name)}
    assert len(set(first) - finished) <= max(len(fetched(tmp_path / "whole", name)) for name in names(whole)) * opened
    web.asked.clear()
    manifest, _ = Fetch().run(job, chosen, {"selected": source}, folder)
    assert manifest == whole
    assert sums(folder, "images", "drops") == sums(tmp_path / "whole", "images", "drops")
    assert set(asked(web)) == set(first | Counter(f"/{n}.jpg" for n in range(urls))) - finished
    assert max(Counter(asked(web)).values()) == 1
    if after > 100:
        assert done


def names(manifest):
    return [Path(entry.path).stem for entry in manifest.entries("images")]


def fetched(folder, name):
    """Paths of the URLs of a finished chunk."""
    log = FETCH_LOG.read(folder / "log" / f"{name}.parquet")
    return {"/" + url.rpartition("/")[2] for url in log.column("url").to_pylist()}
