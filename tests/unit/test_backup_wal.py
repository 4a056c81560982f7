"""Names of WAL, and whether the archive of it is whole."""

from __future__ import annotations

from io import BytesIO

import pytest
from auditdb_backup.errors import BackupError
from auditdb_backup.wal_archive import HEADER_BYTES, Header, read_header
from auditdb_backup.wal_continuity import gaps, history, state
from auditdb_backup.wal_name import Segment, check, ending, holding, position, segment
from hypothesis import given
from hypothesis import strategies as st

SIZES = st.sampled_from([1 << power for power in range(20, 31)])


@given(st.integers(1, 0xFFFFFFFF), st.integers(0, 1 << 40), SIZES)
def test_names_are_read_as_they_are_written(timeline, number, size):
    number %= ((1 << 64) - 1) // size
    found = Segment(timeline, number)
    assert segment(found.name(size), size) == found
    assert check(found.name(size))


@pytest.mark.parametrize(
    ("name", "number"),
    [("000000010000000000000001", 1), ("0000000100000000000000FF", 255), ("000000010000000100000000", 256)],
)
def test_numbers_of_segments(name, number):
    assert segment(name) == Segment(1, number)


@pytest.mark.parametrize(
    "name",
    ["", "..", "../000000010000000000000001", "000000010000000000000001.gz", "00000001000000000000000g", "x.history"],
)
def test_other_names_are_refused(name):
    with pytest.raises(BackupError, match="no WAL file"):
        check(name)


@pytest.mark.parametrize(
    "name", ["00000002.history", "000000010000000000000002.00000028.backup", "000000010000000000000002.partial"]
)
def test_what_is_no_segment_is_archived_too(name):
    assert check(name) == name and segment(name) is None


def test_positions():
    assert position("1/2") == (1 << 32) + 2
    assert holding("0/3000000", 1).number == 3
    assert ending("0/3000000", 1).number == 2, "the byte before it is the last that is needed"
    with pytest.raises(BackupError, match="no log sequence number"):
        position("nonsense")


@given(st.integers(0, 500), st.integers(1, 80), st.data())
def test_each_missing_segment_is_found_and_no_other(begin, length, data):
    numbers = set(range(begin, begin + length))
    lost = data.draw(st.sets(st.sampled_from(sorted(numbers - {begin + length - 1}) or [begin]), max_size=5))
    lost -= {begin + length - 1}  # what comes last is not known to be missing
    names = [Segment(1, number).name() for number in numbers - lost]
    assert gaps(names, {1: Segment(1, begin)}) == [Segment(1, number) for number in sorted(lost)]


def test_a_timeline_goes_on_where_its_parent_was_left():
    history_text = "1\t0/5000100\tno recovery target specified\n"
    (left,) = history(history_text).items()
    names = [Segment(1, number).name() for number in (2, 3, 4, 5)] + [Segment(2, number).name() for number in (5, 6)]
    first = {1: Segment(1, 2)}
    assert gaps(names, first, {2: left}) == []
    assert gaps(names[1:], first, {2: left}) == [Segment(1, 2)]
    assert gaps([*names[:2], *names[4:]], first, {2: left}) == [Segment(1, 4)], "the parent's, up to the switch"
    assert gaps([*names[:4], names[5]], first, {2: left}) == [Segment(2, 5)], "the child's, from the switch on"


def test_the_newest_segment_is_the_last_before_a_gap():
    names = [Segment(1, number).name() for number in (2, 3, 5, 6)]
    found = state(names, gaps(names))
    assert found.newest == Segment(1, 3).name() and found.missing == (Segment(1, 4).name(),)
    assert (found.oldest, found.segments) == (Segment(1, 2).name(), 4)
    assert state([], []).newest is None


HEADER = Header(1, "000000010000000000000001", "aa", 16 << 20, "bb", 99, "2026-05-01T12:00:00.000000Z", "")


@given(st.integers(0, HEADER_BYTES - 1), st.integers(0, 7))
def test_each_flipped_bit_of_a_header_is_found(byte, bit):
    packed = bytearray(HEADER.pack())
    assert len(packed) == HEADER_BYTES and read_header(BytesIO(packed), HEADER.name) == HEADER
    packed[byte] ^= 1 << bit
    with pytest.raises(BackupError, match="header is damaged"):
        read_header(BytesIO(packed), HEADER.name)
