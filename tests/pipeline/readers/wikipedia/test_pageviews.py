import bz2
import gzip
import io
import itertools
from collections import Counter
from pathlib import Path

import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from openwit.pipeline.common.counting import ReasonCounter
from openwit.pipeline.readers.wikipedia import pageviews
from openwit.pipeline.readers.wikipedia.pageviews import LINES, LINES_ADDED, VIEW_REASONS, namespaces, sum_views
from openwit.pipeline.readers.wikipedia.wikidump import DUMP_DAMAGED
from openwit.schemas.common.errors import OpenWITError


def views(data: bytes | str, language: str = "en", min_views: int = 1) -> tuple[dict[str, int], ReasonCounter]:
    tally = ReasonCounter()
    raw = data.encode() if isinstance(data, str) else data
    sums = sum_views(io.BytesIO(raw), language, min_views=min_views, count=tally)
    assert tally.counts[LINES] == used(tally) + sum(tally.counts[reason] for reason in VIEW_REASONS)
    return dict(sums), tally


def used(tally: ReasonCounter) -> int:
    return tally.counts[LINES_ADDED]


HOURLY = """\
de Hamburg 5 0
en !Action_Pact! 3 0
en Albert_Einstein 100 0
en Star_Trek:_Picard 7 0
en.b Cookbook 4 0
en.d house 9 0
en.m Albert_Einstein 250 0
en.m.d house 9 0
en.zero Albert_Einstein 1 0
en-x Other 3 0
fr Paris 8 0
"""


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, zstandard.compress])
def test_sums_desktop_and_mobile(compress, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "pageviews-20251101-130000.gz"
    path.write_bytes(compress(HOURLY.encode()))
    tally = ReasonCounter()
    assert sum_views(path, "en", count=tally) == {"!Action Pact!": 3, "Albert Einstein": 351, "Star Trek: Picard": 7}
    assert dict(tally.counts) == {LINES: 11, LINES_ADDED: 5, "other_project": 6}
    assert sum_views(path, "de") == {"Hamburg": 5}


def test_daily_files() -> None:
    sums, tally = views(
        "de.wikipedia Berlin 9 desktop 3 A3\n"
        "en.wikipedia Main_Page 15580374 desktop 1000 A100B900\n"
        "en.wikipedia Main_Page 15580374 mobile-web 500 A50B450\n"
        "en.wikipedia Main_Page 15580374 mobile-app 7 Q7\n"
        "en.wikipedia No_id null desktop 2 A2\n"
        "en.wikipedia Older desktop 5 A5\n"
        "en.wikipedia Special:Search null desktop 24 C3[1\\\\1]4^1_1\n"
        'en.wikipedia "\\"Heroes\\"_(album)" 5 desktop 6 A6\n'
        'en.wikipedia "Weird_Al"_Yankovic 6 desktop 1 A1\n'
        "en.wikipedia Bad 999 desktop NOTANUMBER A1\n"
        "en.wiktionary house 3 desktop 4 A4\n"
    )
    assert sums == {"Main Page": 1507, "No id": 2, "Older": 5, '"Heroes" (album)': 6, '"Weird Al" Yankovic': 1}
    assert dict(tally.counts) == {
        LINES: 11,
        LINES_ADDED: 7,
        "other_project": 2,
        "bad_line": 1,
        "other_namespace": 1,
    }


@pytest.mark.parametrize(
    ("line", "title", "reason"),
    [
        ("en A 1 0", "A", None),
        ("en A 1", "A", None),
        ("en A 1 0\r", "A", None),
        ("en A_B__C 1 0", "A B  C", None),
        ("en Caf%C3%A9 1 0", "Café", None),
        ("en %E6%97%A5%E6%9C%AC 1 0", "日本", None),
        ("en 100%_Wolf 1 0", "100% Wolf", None),
        ("en A%5FB 1 0", "A B", None),
        ("en 2001:_A_Space_Odyssey 1 0", "2001: A Space Odyssey", None),
        ('en "Heroes" 1 0', '"Heroes"', None),
        ("en A 0 0", None, "too_few_views"),
        ("en - 9 0", None, "no_title"),
        ("en  9 0", None, "no_title"),
        ("en ___ 9 0", None, "no_title"),
        ("en %20 9 0", None, "no_title"),
        ("en Caf%E9 1 0", None, "bad_title"),
        ("en A%0AB 1 0", None, "bad_title"),
        ("en <script> 1 0", None, "bad_title"),
        ("en Talk:A 1 0", None, "other_namespace"),
        ("en talk:A 1 0", None, "other_namespace"),
        ("en User_talk:A 1 0", None, "other_namespace"),
        ("en USER__TALK_:A 1 0", None, "other_namespace"),
        ("en Special%3ASearch 1 0", None, "other_namespace"),
        ("en Wikipedia:A 1 0", None, "other_namespace"),
        ("en Portal_talk:A 1 0", None, "other_namespace"),
        ("en Draft:A 1 0", None, "other_namespace"),
        ("en A", None, "bad_line"),
        ("en A B 1 0 x y", None, "bad_line"),
        ("en A -1 0", None, "bad_line"),
        ("en A 9999999999999999 0", None, "bad_line"),
        ("en A one 0", None, "bad_line"),
        ("en", None, "other_project"),
        ("", None, "other_project"),
        ("EN A 1 0", None, "other_project"),
        ("enx A 1 0", None, "other_project"),
        ("en.q A 1 0", None, "other_project"),
    ],
)
def test_every_line_that_is_not_added_up_has_its_reason(line: str, title: str | None, reason: str | None) -> None:
    for before, after in (("", "\n"), ("de A 1 0\nen X 3 0\n", "\nen.m Y 4 0\nfr Z 1 0\n")):
        sums, tally = views(before + line + after)
        sums.pop("X", None)
        sums.pop("Y", None)
        assert list(sums) == ([] if title is None else [title])
        others = 2 if before else 0
        assert tally.counts["other_project"] == others + (reason == "other_project")
        assert [r for r in tally.counts if r in VIEW_REASONS and r != "other_project"] == (
            [reason] if reason not in (None, "other_project") else []
        )


def test_lines_with_few_views_are_left_out() -> None:
    sums, tally = views("en A 49 0\nen B 50 0\nen.m A 51 0\n", min_views=50)
    assert sums == {"B": 50, "A": 51}
    assert tally.counts["too_few_views"] == 1


@pytest.mark.parametrize(
    ("language", "gone", "kept"),
    [
        ("en", "MOS:X WP:X Book_talk:X Image:X", "Alien:X Spezial:X H:X"),
        ("de", "Spezial:X Datei:X BD:X Benutzerin_Diskussion:X Kategorie_Diskussion:X Talk:X", "CSI:X Fichier:X"),
        ("fr", "Spécial:X Discussion_utilisateur:X Projet:X Discussion_Portail:X User:X", "Alien:X Datei:X"),
        ("es", "Especial:X Anexo:X Usuario_discusión:X Categoría:X", "Alien:X"),
        ("it", "Speciale:X Discussioni_utente:X Aiuto:X", "Alien:X"),
        ("nl", "Speciaal:X Overleg_gebruiker:X Overleg:X", "Alien:X"),
        ("pl", "Specjalna:X Dyskusja_wikipedysty:X Pomoc:X", "Alien:X"),
        ("pt", "Especial:X Usuário(a)_Discussão:X Predefinição:X", "Alien:X"),
        ("ru", "Служебная:X обсуждение_участника:X Файл:X", "Чужой:X"),
        ("ja", "特別:X 利用者‐会話:X ファイル:X ノート:X Wikipedia‐ノート:X", "エイリアン:X"),
        ("zh", "特殊:X 用户讨论:X 檔案:X 討論:X", "異形:X"),
        ("sv", "Special:X Användardiskussion:X Malldiskussion:X Fil:X", "Alien:X"),
        ("zh-yue", "Special:X User_talk:X", "特殊:X"),
    ],
)
def test_namespaces_of_a_language(language: str, gone: str, kept: str) -> None:
    data = "".join(f"{language} {title} 1 0\n{language}.m {title} 1 0\n" for title in [*gone.split(), *kept.split()])
    sums, tally = views(data, language)
    assert sums == dict.fromkeys(kept.split(), 2)
    assert tally.counts["other_namespace"] == 2 * len(gone.split())


def test_no_language_has_an_empty_name() -> None:
    for language in ("en", "de", "pl", "xx"):
        assert "" not in namespaces(language)
        assert all(name == name.strip() and "_" not in name for name in namespaces(language))


@pytest.mark.parametrize("language", ["", "EN", "en.m", "e n", "en\n", ".*", "../x"])
def test_what_is_no_language_is_refused(language: str) -> None:
    with pytest.raises(OpenWITError, match="not a language code"):
        sum_views(io.BytesIO(b""), language)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(OpenWITError, match="does not exist"):
        sum_views(tmp_path / "none.gz", "en")


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, zstandard.compress])
def test_a_damaged_file_gives_what_comes_before(compress) -> None:  # type: ignore[no-untyped-def]
    data = "".join(f"en Title_{n * 7919} 3 0\n" for n in range(200_000)).encode()
    whole = compress(data)
    sums, tally = views(whole[: len(whole) // 2])
    assert 10_000 < len(sums) < 190_000
    assert set(sums.values()) == {3}
    assert tally.counts[DUMP_DAMAGED] == 1
    assert used(tally) == len(sums)
    assert set(tally.counts) <= {LINES, LINES_ADDED, DUMP_DAMAGED, "bad_line"}


def test_a_number_cut_off_by_damage_is_not_believed() -> None:
    whole = gzip.compress(b"en A 1 0\nen B 12345 0", 0)
    sums, tally = views(whole[:-12])  # of "en B 12345 0" the end is gone with the checksum
    assert sums == {"A": 1}
    assert dict(tally.counts) == {LINES: 2, LINES_ADDED: 1, "bad_line": 1, DUMP_DAMAGED: 1}


@pytest.mark.parametrize("tail", [b"", b"\n", b"\nen B 2 0", b"\nen B 2 0\nen C 3 0\n"])
def test_a_line_too_long_costs_itself_only(monkeypatch: pytest.MonkeyPatch, tail: bytes) -> None:
    monkeypatch.setattr(pageviews, "_MAX_LINE_BYTES", 300_000)
    sums, tally = views(b"en A 1 0\nen " + b"x" * 2_000_000 + tail)
    expected = {"A": 1, "B": 2, "C": 3}
    assert sums == {title: expected[title] for title in ["A", "B", "C"][: 1 + tail.count(b"en")]}
    assert tally.counts["bad_line"] == 1
    assert used(tally) == len(sums)


_LINES = st.one_of(
    st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"")),
    st.builds(
        lambda code, title, number, tail: b" ".join((code, title, number, tail)),
        st.sampled_from([b"en", b"en.m", b"en.d", b"en.wikipedia", b"de", b"en.zero"]),
        st.one_of(
            st.sampled_from([b"A", b"B", b"Talk:A", b"A:_B", b"-", b"%41", b"%ff", b'"\\"A\\""', b"3 desktop"]),
            st.binary(max_size=8).map(lambda title: title.replace(b"\n", b"")),
        ),
        st.sampled_from([b"1", b"2", b"7 desktop 3", b"x", b"", b"0"]),
        st.sampled_from([b"0", b"A1", b"", b"0 0"]),
    ),
)


@settings(max_examples=300, deadline=None)
@given(lines=st.lists(_LINES, max_size=12), cut=st.integers(0, 12), chunk=st.sampled_from([1, 3, 17, 1 << 18]))
@example(lines=[b"en A 1 0", b"\r", b"en A 1 0\r"], cut=2, chunk=1)
def test_any_lines_are_counted_once_and_add_up(lines: list[bytes], cut: int, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("openwit.pipeline.readers.crawl.decompress.READ_BYTES", chunk)
        whole, tally = views(b" \n" + b"".join(line + b"\n" for line in lines))
    assert tally.counts[LINES] == len(lines) + 1
    parts = [views(b" \n" + b"".join(line + b"\n" for line in part)) for part in (lines[:cut], lines[cut:])]
    assert Counter(whole) == Counter(parts[0][0]) + Counter(parts[1][0])
    assert used(tally) == used(parts[0][1]) + used(parts[1][1])
    alone = [used(views(b" \n" + line + b"\n")[1]) for line in lines]
    assert used(tally) == sum(alone)


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200), magic=st.sampled_from([b"", b"\x1f\x8b\x08", b"BZh9", b"\x28\xb5\x2f\xfd"]))
def test_random_files_do_not_raise(data: bytes, magic: bytes) -> None:
    views(magic + data)


def test_order_of_lines_does_not_matter() -> None:
    lines = HOURLY.splitlines(keepends=True)
    sums = {
        frozenset(views("".join(order))[0].items()) for order in itertools.islice(itertools.permutations(lines), 50)
    }
    assert sums == {frozenset(views(HOURLY)[0].items())}
