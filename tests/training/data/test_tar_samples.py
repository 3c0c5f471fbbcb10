from collections import Counter

import pytest

from openwit.training.data.tar_samples import Gathering, split_name


def gathered(*names: str, apart: bool = True) -> tuple[dict[str, str], Counter[str]]:
    reasons: Counter[str] = Counter()

    def left(reason: str, _: str) -> None:
        reasons[reason] += 1

    gathering: Gathering[str] = Gathering(left, apart=apart)
    found = [sample for name in names for sample in gathering.add(name, name)]
    found += gathering.end()
    return {key: " ".join(sorted(parts.values())) for key, parts in found}, reasons


@pytest.mark.parametrize(
    ("names", "samples", "reasons"),
    [
        ("a.jpg a.txt b.JPEG b.TXT", "a b", {}),
        ("a.jpg a.txt a.seg.png a.seg.json a.left.jpg", "a", {}),
        ("v1.0.jpg v1.0.txt v1.5.jpg v1.5.txt", "v1.0 v1.5", {}),
        ("v1.0.jpg v1.0.json v1.5.jpg v1.5.json", "v1.0 v1.5", {}),
        ("p.jpg p.txt p.1.jpg p.1.txt", "p.1 p", {}),
        ("v1.0.jpg v1.5.jpg v1.0.txt v1.5.txt", "v1.0 v1.5", {}),
        ("a.jpg ._a.jpg a.txt __MACOSX/._a.txt .DS_Store", "a", {"metadata of a system": 3}),
        ("d/._a.jpg d/a.jpg d/._a.txt d/a.txt PaxHeaders.7/a.jpg", "d/a", {"metadata of a system": 3}),
        ("a.jpg b.jpg a.txt b.txt", "a b", {}),
        ("a.jpg a.txt README b.jpg", "a", {"other member": 1, "no text": 1}),
        ("a.jpg a.png a.txt", "a", {"double member": 1}),
        ("x.txt y.jpg", "", {"no image": 1, "no text": 1}),
    ],
)
def test_members_become_samples(names: str, samples: str, reasons: dict[str, int]) -> None:
    found, left = gathered(*names.split())
    assert list(found) == samples.split()
    assert left == reasons


def test_a_stream_does_not_wait_for_what_is_apart() -> None:
    assert gathered("a.jpg", "b.jpg", "a.txt", "b.txt", apart=False)[1] == {"no image": 2, "no text": 2}


def test_many_names_that_begin_alike_are_not_kept_until_the_end() -> None:
    gathering: Gathering[int] = Gathering(lambda *_: None, apart=False)
    ready = 0
    for number in range(1000):
        for suffix in ("jpg", "json"):
            ready += sum(1 for _ in gathering.add(f"v1.{number} x.{suffix}", number))
    assert ready > 700
    assert ready + sum(1 for _ in gathering.end()) == 1000


def test_the_first_dot_splits() -> None:
    assert split_name("a.b/c.D.JPG") == ("a.b/c", "d.jpg")
