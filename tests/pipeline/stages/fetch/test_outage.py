"""Fetch while we are cut off, or seem to be."""

import contextlib

import pytest
from support.picture_web import HOSTS_OF_WEB, Web, settings, spread_over_hosts, tables

from openwit.pipeline.cli.progress import Pace, progress_note
from openwit.pipeline.download.status import NO_RESPONSE, RESPONDED, FetchStatus
from openwit.pipeline.execution.progress import JobProgress, SilentProgress
from openwit.pipeline.execution.runners import make_engine
from openwit.pipeline.execution.stage import Job
from openwit.pipeline.execution.tasks import RESULTS
from openwit.pipeline.stages.fetch import Fetch
from openwit.pipeline.stages.fetch import task as fetch_task
from openwit.pipeline.stages.fetch.log import FETCH_LOG, host_name
from openwit.pipeline.stages.fetch.messages import pause_message
from openwit.pipeline.stages.fetch.outage import NetworkState, is_cut_off, judge, site_of
from openwit.schemas.common.errors import OpenWITError

pytestmark = pytest.mark.usefixtures("no_query_counts")


def test_heard_and_unheard_are_apart():
    assert not RESPONDED & NO_RESPONSE
    assert FetchStatus.SUCCESS in RESPONDED


def statuses(heard, unheard, hosts=10):
    rows = [FetchStatus.HTTP_NOT_FOUND] * heard + [FetchStatus.DNS_FAILED] * unheard
    return {f"http://h{n % hosts}.org/{n}": status for n, status in enumerate(rows)}


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        (statuses(0, 30), NetworkState.BROKEN),
        (statuses(2, 98, 100), NetworkState.BROKEN),
        (statuses(10, 90), NetworkState.FINE),
        (statuses(0, 19), NetworkState.FINE),
        (statuses(0, 30, hosts=4), NetworkState.DOUBTFUL),
        (statuses(30, 0), NetworkState.FINE),
        ({f"http://h{n}.org/": FetchStatus.ROBOTS_UNREACHABLE for n in range(50)}, NetworkState.FINE),
        # One big dead host beside five that live.
        (
            {f"http://dead.org/{n}": FetchStatus.CONNECT_TIMEOUT for n in range(500)}
            | {f"http://h{n}.org/": FetchStatus.SUCCESS for n in range(5)},
            NetworkState.FINE,
        ),
    ],
)
def test_what_answers_say_of_our_connection(answers, verdict):
    assert judge(answers, 0.1) is verdict


def test_an_outage_stops_the_run_and_the_same_command_goes_on(tmp_path, job, select, web):
    live = Web().start()
    try:
        source = select(tmp_path / "s", {0: spread_over_hosts(live), 1: spread_over_hosts(web)})
        with pytest.raises(OpenWITError) as stopped:
            Fetch().run(job, settings(chunk=40, outage_retries=1), {"selected": source}, tmp_path / "f")
        message = str(stopped.value)
        assert "chunk 00001: only 0 of 30 URLs got a response (connect_failed) in 2 tries" in message
        assert "\n" not in message
        assert [p.stem for p in (tmp_path / "f" / RESULTS).iterdir()] == ["00000"]
        asked = len(live.asked)
        web.start()
        # How hard to try is no part of the build's identity: the folder is taken up.
        manifest, did = Fetch().run(job, settings(chunk=40, outage_retries=5), {"selected": source}, tmp_path / "f")
    finally:
        live.stop()
    assert did
    assert manifest.rows_out("images") == 60
    assert len(live.asked) == asked
    assert not list((tmp_path / "f").rglob(".partial-*"))


def test_an_outage_that_passes_costs_nothing_but_time(tmp_path, select, web, monkeypatch, caplog):
    job = Job(make_engine("local", 1))
    source = select(tmp_path / "s", {0: spread_over_hosts(web, 130)})
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 2:
            web.start()

    monkeypatch.setattr(fetch_task.time, "sleep", pause)
    manifest, _ = Fetch().run(job, settings(chunk=1000, outage_pause_s=7), {"selected": source}, tmp_path / "f")
    monkeypatch.undo()
    assert pauses[:2] == [7, 14]
    said = [record.message for record in caplog.records if "pausing" in record.message]
    assert said == [
        "No server responded in chunk 00000 (130 connect_failed from 6 hosts), "
        f"as when this machine's network is down; pausing {pause} s ({number} of 3)"
        for number, pause in ((1, 7), (2, 14))
    ]
    assert not (tmp_path / "f" / ".stage" / "notices").exists()
    assert manifest.rows_out("images") == 130
    assert all(row["status"] == "success" for row in tables(tmp_path / "f", "log", FETCH_LOG))


def test_a_few_answers_are_told_too():
    few = [FetchStatus.SUCCESS] * 2 + [FetchStatus.DNS_FAILED] * 48
    assert pause_message("00003", few, 60.0, 2, 3) == (
        "Only 2 of 50 URLs got a response in chunk 00003 (48 dns_failed), as when this machine's network is down; "
        "pausing 60 s (2 of 3)"
    )


@pytest.mark.parametrize("status", [404, 403, 500])
def test_what_servers_refuse_is_no_outage(tmp_path, job, select, web, status):
    web.statuses.update(dict.fromkeys(HOSTS_OF_WEB, status))
    web.start()
    source = select(tmp_path / "s", {0: spread_over_hosts(web)})
    manifest, _ = Fetch().run(job, settings(download={"robots": False}), {"selected": source}, tmp_path / "f")
    assert manifest.rows_out("images") == 0


def test_small_chunks_and_a_floor_of_zero_take_failures_as_they_come(tmp_path, job, select, web):
    few = select(tmp_path / "few", {0: spread_over_hosts(web, 19)})
    assert Fetch().run(job, settings(), {"selected": few}, tmp_path / "f1")[0].funnel[0].reasons == {
        "connect_failed": 19
    }
    many = select(tmp_path / "many", {0: spread_over_hosts(web, 30)})
    manifest, _ = Fetch().run(job, settings(min_success=0), {"selected": many}, tmp_path / "f2")
    assert manifest.funnel[0].reasons == {"connect_failed": 30}


def test_a_dead_host_of_its_own_is_believed(tmp_path, job, select, web, monkeypatch):
    live = Web().start()
    try:
        dead = [web.url("dead.localhost", n) for n in range(30)]
        both = select(tmp_path / "s", {0: dead, 1: spread_over_hosts(live)})
        manifest, _ = Fetch().run(job, settings(outage_retries=1), {"selected": both}, tmp_path / "f")
        assert manifest.rows_out("images") == 30
        alone = select(tmp_path / "alone", {0: dead})
        # Its name was resolved: that it is the only host does not make it our network.
        monkeypatch.setattr(fetch_task.time, "sleep", lambda _: pytest.fail("paused for one dead host"))
        manifest, _ = Fetch().run(job, settings(outage_retries=1), {"selected": alone}, tmp_path / "f2")
        assert sum(manifest.funnel[0].reasons.values()) == 30
    finally:
        live.stop()


def of_hosts(status, *hosts):
    return {f"http://{host}/{n}": status for host in hosts for n in range(10)}


@pytest.mark.parametrize(
    ("chunk", "others", "cut_off"),
    [
        (of_hosts(FetchStatus.CONNECT_TIMEOUT, "dead.org"), {}, False),
        (of_hosts(FetchStatus.DNS_NOT_FOUND, "dead.org"), {}, False),
        (of_hosts(FetchStatus.DNS_FAILED, "dead.org"), {}, True),
        (of_hosts(FetchStatus.DNS_FAILED, "dead.org"), of_hosts(FetchStatus.HTTP_NOT_FOUND, "a.org"), False),
        (of_hosts(FetchStatus.CONNECT_TIMEOUT, "dead.org"), of_hosts(FetchStatus.TIMEOUT, *"abcd"), True),
        (of_hosts(FetchStatus.CONNECT_TIMEOUT, *(f"i{n}.dead.co.uk" for n in range(9))), {}, False),
        (of_hosts(FetchStatus.CONNECT_TIMEOUT, *(f"h{n}.co.uk" for n in range(9))), {}, True),
        (of_hosts(FetchStatus.HOST_UNREACHABLE, "dead.org"), {}, True),
    ],
)
def test_a_dead_site_is_not_our_outage(chunk, others, cut_off):
    state = judge(chunk | {f"{url}x": status for url, status in chunk.items()}, 0.1)
    sites = {site_of(host_name(url)) for url in chunk}
    assert state is (NetworkState.BROKEN if len(sites) > 4 else NetworkState.DOUBTFUL)
    assert is_cut_off(chunk, others) is cut_off


def test_reasons_so_far_are_in_the_progress(tmp_path, select, web):
    web.statuses.update(dict.fromkeys(HOSTS_OF_WEB, 404))
    web.start()
    seen = []

    class Watch(SilentProgress):
        @contextlib.contextmanager
        def watch(self, _label, folder, names, unit):
            yield
            seen.append(progress_note(JobProgress(folder, names).look(), len(names), unit, Pace(), 0.0))

    source = select(tmp_path / "s", {0: spread_over_hosts(web)})
    job = Job(make_engine("local", 1), Watch())
    Fetch().run(job, settings(download={"robots": False}), {"selected": source}, tmp_path / "f")
    assert "dropped: http_not_found" in seen[-1]
