import io
import sys
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tars import add_without_data, tar_of

from openwit.schemas.common.tar_members import DAMAGED, NO_END, Forward, Member, members


def both(raw: bytes) -> tuple[list[tuple[str, bytes]], list[str]]:
    """Reads from memory and as a stream, which must agree."""
    found: list[tuple[list[tuple[str, bytes]], list[str]]] = []
    for archive in (raw, Forward(io.BytesIO(raw))):
        notes: list[str] = []
        read = [
            (each.name, archive[each.offset : each.offset + each.size])
            for each in members(archive, lambda reason, _, notes=notes: notes.append(reason))  # type: ignore[misc]
        ]
        found.append((read, notes))
    assert found[0][0] == found[1][0][: len(found[0][0])]
    return found[0]


FILES = [(f"a{n}.{suffix}", bytes([65 + n]) * 700 * n) for n in range(4) for suffix in ("jpg", "txt")]


@settings(max_examples=60, deadline=None)
@given(
    files=st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_characters="\0/."), min_size=1, max_size=300).filter(
                lambda name: not name.endswith("/")
            ),
            st.binary(max_size=1500),
        ),
        max_size=5,
    ),
    form=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_what_tarfile_writes_is_read(files: list[tuple[str, bytes]], form: int) -> None:
    assert both(tar_of(files, form)) == (files, [])


@pytest.mark.parametrize("at", [0, 124, 148, 156, 257])
def test_a_damaged_header_costs_its_member_only(at: int) -> None:
    raw = bytearray(tar_of(FILES))
    position = next(each.offset for each in members(bytes(raw)) if each.name == "a2.jpg") - 512
    raw[position + at] ^= 0x49
    found, notes = both(bytes(raw))
    kept = [file for file in found if file in FILES]
    assert len(kept) >= len(FILES) - 2
    assert at in (0, 148, 156) or notes == [DAMAGED]


def test_noise_between_members_and_a_second_tar_behind_the_first() -> None:
    first, second = tar_of(FILES[:4]), tar_of(FILES[4:])
    assert both(first + second) == (FILES, [])
    whole = tar_of(FILES)
    offset = next(each.offset for each in members(whole) if each.name == "a2.jpg") - 512
    assert both(whole[:offset] + b"noise" * 512 + b"\0" * 512 + whole[offset:]) == (FILES, [DAMAGED])


@settings(max_examples=80, deadline=None)
@given(length=st.integers(0, 12_000))
def test_any_cut_keeps_what_is_whole_and_is_said(length: int) -> None:
    whole = tar_of(FILES)
    found, notes = both(whole[:length])
    assert found == FILES[: len(found)]
    ends = [each.offset + each.size for each in members(whole)]
    assert len(found) == sum(end <= length for end in ends)
    if 0 < length <= ends[-1]:
        assert notes in ([DAMAGED], [NO_END])


@settings(max_examples=60, deadline=None)
@given(places=st.lists(st.tuples(st.integers(0, 9_999), st.integers(0, 255)), max_size=6))
def test_any_damage_ends(places: list[tuple[int, int]]) -> None:
    raw = bytearray(tar_of(FILES))
    for place, value in places:
        raw[place % len(raw)] = value
    assert len(list(members(bytes(raw)))) <= 50
    list(members(Forward(io.BytesIO(raw))))


@pytest.mark.parametrize(
    "size", [b"-0000000010\0", b"\xff" * 12, b"7" * 12, b"\x80" + b"\xff" * 11, b"99999999999\0", b"            "]
)
def test_an_impossible_size_is_damage(size: bytes) -> None:
    raw = bytearray(tar_of(FILES))
    raw[124:136] = size
    found, notes = both(bytes(raw))
    assert found == FILES[1:] or found[1:] == FILES[1:]
    assert notes == [DAMAGED] or size == b"            "


def test_links_name_their_target_and_names_are_cleaned() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        entries = [
            ("./d/a.jpg", tarfile.REGTYPE, ""),
            ("./d", tarfile.DIRTYPE, ""),
            ("./e//b.jpg", tarfile.SYMTYPE, "../d/a.jpg"),
            ("./c.jpg", tarfile.LNKTYPE, "./d/a.jpg"),
            ("pipe", tarfile.FIFOTYPE, ""),
        ]
        add_without_data(tar, entries)
    found = [(each.name, each.target) for each in members(buffer.getvalue())]
    assert found == [("d/a.jpg", ""), ("e/b.jpg", "d/a.jpg"), ("c.jpg", "d/a.jpg")]


def test_names_that_are_no_utf8_stay_different() -> None:
    raw = tar_of([("caf1.jpg", b"1"), ("caf2.jpg", b"2")], tarfile.USTAR_FORMAT)
    found = list(members(raw.replace(b"caf1", b"caf\xe8").replace(b"caf2", b"caf\xe9")))
    assert len({each.name for each in found}) == len(found) <= 2


def test_a_stream_reads_each_byte_once() -> None:
    class Counted(io.BytesIO):
        total = 0

        def read(self, size: int | None = -1, /) -> bytes:
            found = super().read(size)
            Counted.total += len(found)
            return found

    for copies in (1, 2, 4):
        Counted.total = 0
        raw = tar_of(FILES * copies)
        assert [each.size for each in members(Forward(Counted(raw)))] == [len(body) for _, body in FILES * copies]
        assert Counted.total <= len(raw)
    assert len(Forward(Counted(b""))) == sys.maxsize
    assert Member("a", 0, 0).target == ""
