"""Settings that name files for workers."""

import pytest

from openwit.pipeline.check import places
from openwit.pipeline.stages import STAGES, stage_named
from openwit.pipeline.step import Step


def test_every_stage_says_what_its_workers_read():
    assert set(places.WORKERS_READ) == set(STAGES)
    for name, keys in places.WORKERS_READ.items():
        for key in keys:
            model = stage_named(name).settings
            *parents, last = key.split(".")
            for part in parents:
                model = model.model_fields[part].annotation
            assert last in model.model_fields, key


@pytest.mark.parametrize(
    ("place", "seen"),
    [
        ("gs://b/x", True),
        ("s3://b/x", True),
        ("https://host/x", True),
        ("/x", False),
        ("x", False),
        ("memory://x", False),
        ("file:///x", False),
    ],
)
def test_what_workers_see(place, seen):
    assert places._is_seen(place) == seen


def test_lists_and_single_files_are_places():
    step = Step("fetch", {"blocklist": "hosts.txt", "download": {"ca_file": "ca.pem"}})
    assert list(places.places_of(step)) == [("blocklist", "hosts.txt"), ("download.ca_file", "ca.pem")]
    assert list(places.places_of(Step("select", {}))) == []


def test_packages_of_stores(monkeypatch):
    monkeypatch.setattr(places, "_is_installed", lambda _: False)
    recipe = type("R", (), {"steps": [Step("dedup", {"exclude": ["s3://b/i"]})]})
    found = places.missing_packages("flink", recipe, "gs://b/w", None)
    assert [sentence.partition(" ")[0] for sentence in found] == ["gcsfs", "s3fs"]
    assert places.missing_packages("flink", type("R", (), {"steps": []}), "/shared", None) == []
