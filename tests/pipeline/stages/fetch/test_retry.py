"""Asking again for what failed, kills included."""

import hashlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.picture_web import settings, spread_over_hosts, sums

from openwit.pipeline.execution.stage import STAGE_MANIFEST, StageManifest
from openwit.pipeline.stages.base import BuildContext
from openwit.pipeline.stages.fetch import Fetch
from openwit.pipeline.stages.fetch import retry as fetch_retry
from openwit.pipeline.stages.fetch import stage as fetch
from openwit.pipeline.stages.fetch.hosts import HOSTS
from openwit.schemas.common.errors import OpenWITError

pytestmark = pytest.mark.usefixtures("no_query_counts")


@pytest.fixture
def half_failed(tmp_path, job, select, web):
    """A finished fetch, a third of whose URLs failed for reasons that pass."""
    for n in range(0, 60, 3):
        web.statuses[f"/{n}.jpg"] = 503
    web.statuses["/1.jpg"] = 404
    web.start()
    source = select(tmp_path / "s", {0: spread_over_hosts(web), 1: spread_over_hosts(web, first=30)})
    Fetch().run(job, settings(), {"selected": source}, tmp_path / "f")
    web.asked.clear()
    return source


def test_a_plain_second_run_does_nothing(tmp_path, job, web, half_failed):
    assert Fetch().run(job, settings(), {"selected": half_failed}, tmp_path / "f")[1] is False
    assert not web.asked


def test_failed_urls_are_asked_again_as_if_they_had_come_at_once(tmp_path, job, web, half_failed):
    reasons = StageManifest.load(tmp_path / "f", "fetch").funnel[0].reasons
    assert reasons == {"http_server_error": 20, "http_not_found": 1}
    for n in range(0, 57, 3):
        del web.statuses[f"/{n}.jpg"]
    manifest, did = Fetch().run(
        job, settings(), {"selected": half_failed}, tmp_path / "f", build=BuildContext(retry_failed=True)
    )
    assert did
    assert sorted(path for _, path in web.asked if path != "/robots.txt") == sorted(
        f"/{n}.jpg" for n in range(0, 60, 3)
    )
    assert manifest.funnel[0].reasons == {"http_server_error": 1, "http_not_found": 1}
    at_once, _ = Fetch().run(job, settings(), {"selected": half_failed}, tmp_path / "at_once")
    assert manifest == at_once
    assert (tmp_path / "f" / STAGE_MANIFEST).read_bytes() == (tmp_path / "at_once" / STAGE_MANIFEST).read_bytes()
    kinds = ("images", "drops")
    assert sums(tmp_path / "f", *kinds) == sums(tmp_path / "at_once", *kinds)
    for entry in manifest.files:
        assert hashlib.sha256((tmp_path / "f" / entry.path).read_bytes()).hexdigest() == entry.sha256
    hosts = HOSTS.read(tmp_path / "f" / "hosts.parquet").to_pylist()
    assert sum(row["ok"] for row in hosts) == 58


def test_with_nothing_to_ask_again_there_is_nothing_to_do(tmp_path, job, web, half_failed):
    for n in range(0, 60, 3):
        del web.statuses[f"/{n}.jpg"]
    assert (
        Fetch().run(job, settings(), {"selected": half_failed}, tmp_path / "f", build=BuildContext(retry_failed=True))[
            1
        ]
        is True
    )
    web.asked.clear()
    assert (
        Fetch().run(job, settings(), {"selected": half_failed}, tmp_path / "f", build=BuildContext(retry_failed=True))[
            1
        ]
        is False
    )
    assert not web.asked


def test_a_second_try_that_gains_nothing_changes_no_byte(tmp_path, job, half_failed):
    before = sums(tmp_path / "f", "images", "drops")
    manifest = (tmp_path / "f" / STAGE_MANIFEST).read_bytes()
    assert (
        Fetch().run(job, settings(), {"selected": half_failed}, tmp_path / "f", build=BuildContext(retry_failed=True))[
            1
        ]
        is True
    )
    assert sums(tmp_path / "f", "images", "drops") == before
    assert (tmp_path / "f" / STAGE_MANIFEST).read_bytes() == manifest


def test_a_second_try_while_we_are_cut_off_changes_nothing(tmp_path, job, web, half_failed):
    web.stop()
    before = sums(tmp_path / "f", "images", "drops", "log")
    Fetch().run(job, settings(), {"selected": half_failed}, tmp_path / "f", build=BuildContext(retry_failed=True))
    assert sums(tmp_path / "f", "images", "drops", "log") == before


@pytest.mark.parametrize("moves", range(0, 8, 3))
def test_a_kill_while_results_move_leaves_old_or_new(tmp_path, job, web, half_failed, monkeypatch, moves):
    web.statuses.clear()
    real, left = fetch_retry.move_file, [moves]

    def dying(source, target):
        if ".stage/retry" in str(source) and ".partial-" not in str(source):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
        real(source, target)

    monkeypatch.setattr(fetch_retry, "move_file", dying)
    with pytest.raises(KeyboardInterrupt):
        Fetch().run(job, settings(), {"selected": half_failed}, tmp_path / "f", build=BuildContext(retry_failed=True))
    monkeypatch.undo()
    monkeypatch.setattr(fetch, "copy_query_counts", lambda *_: [])
    with pytest.raises(OpenWITError, match="holds no finished 'fetch' stage"):
        StageManifest.load(tmp_path / "f", "fetch")
    web.asked.clear()
    manifest, _ = Fetch().run(job, settings(), {"selected": half_failed}, tmp_path / "f")
    assert manifest.rows_out("images") == 59
    assert not web.asked
    assert not (tmp_path / "f" / ".stage" / "retry").exists()


RETRY = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from openwit.pipeline.execution.runners import make_engine
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.stages.base import BuildContext
from openwit.pipeline.stages.fetch.settings import FetchSettings
from openwit.pipeline.stages.fetch import Fetch, stage as fetch
fetch.copy_query_counts = lambda *_: []
settings = FetchSettings.model_validate_json(sys.argv[2])
job = Job(make_engine("local", 1))
build = BuildContext(retry_failed=True)
Fetch().run(job, settings, {"selected": Path(sys.argv[3])}, Path(sys.argv[4]), build=build)
"""


def test_a_kill_in_a_second_try_keeps_the_first_results_and_goes_on(tmp_path, job, web, half_failed):
    folder = tmp_path / "f"
    before = sums(folder, "images", "drops", ".stage/results")
    web.statuses.clear()
    web.stop()
    web.delay = 0.15
    web.start()
    chosen = settings()
    root = str(Path(__file__).parents[4] / "src")
    dump = chosen.model_dump_json()
    process = subprocess.Popen([sys.executable, "-c", RETRY, root, dump, str(half_failed), str(folder)])
    staged = folder / ".stage" / "retry" / ".stage" / "results" / "00000.json"
    while not staged.exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert sums(folder, "images", "drops", ".stage/results") == before
    assert Fetch().run(job, chosen, {"selected": half_failed}, folder)[1] is False
    web.asked.clear()
    manifest, did = Fetch().run(job, chosen, {"selected": half_failed}, folder, build=BuildContext(retry_failed=True))
    assert did
    assert manifest.rows_out("images") == 59
    asked = {path for _, path in web.asked if path != "/robots.txt"}
    assert asked == {f"/{n}.jpg" for n in range(30, 60, 3)}
    assert not list(folder.rglob(".partial-*"))
