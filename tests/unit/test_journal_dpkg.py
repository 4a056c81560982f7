"""The dpkg log: its lines, its zone, its rotation."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.journal_dpkg import (
    find_files,
    parse_line,
    read_log,
    shrunken,
)
from hypothesis import given
from hypothesis import strategies as st

THEN = datetime(2026, 1, 1, tzinfo=UTC)


def parsed(line: str | bytes, zone=UTC):
    line = line if isinstance(line, bytes) else line.encode()
    return parse_line(line, host="db1", zone=zone, fallback=THEN)


@pytest.mark.parametrize(
    ("line", "action", "target", "status"),
    [
        ("startup archives unpack", "startup", ("host", "db1"), "attempt"),
        ("install libc6:amd64 <none> 2.41-12", "install", ("package", "libc6:amd64"), "attempt"),
        ("upgrade libc6:amd64 2.40 2.41-12", "upgrade", ("package", "libc6:amd64"), "attempt"),
        ("trigproc libc-bin:amd64 2.41-12 <none>", "trigproc", ("package", "libc-bin:amd64"), "attempt"),
        ("status half-installed sudo:amd64 1.9", "status", ("package", "sudo:amd64"), "attempt"),
        ("status installed sudo:amd64 1.9", "status", ("package", "sudo:amd64"), "success"),
        ("status not-installed sudo:amd64 <none>", "status", ("package", "sudo:amd64"), "success"),
        ("conffile /etc/a b keep", "conffile", ("file", "/etc/a b"), "success"),
        ("surprise", "surprise", ("host", "db1"), "attempt"),
    ],
)
def test_lines(line, action, target, status):
    event = parsed(f"2026-11-23 03:51:02 {line}\n")
    assert (event.action, event.status) == (f"dpkg.{action}", status)
    assert (event.target_resource_type, event.target_resource_id) == target
    assert event.timestamp == datetime(2026, 11, 23, 3, 51, 2, tzinfo=UTC)
    assert event.outcome_description == event.details["line"] == f"2026-11-23 03:51:02 {line}"


def test_versions_are_in_the_details():
    details = parsed("2026-11-23 03:51:02 upgrade libc6:amd64 2.40 2.41-12\n").details
    assert (details["package"], details["installed_version"], details["version"]) == ("libc6:amd64", "2.40", "2.41-12")


def test_times_are_the_hosts_own():
    line = "2026-07-01 03:00:00 startup archives unpack\n"
    assert parsed(line, ZoneInfo("Asia/Amman")).timestamp == datetime(2026, 7, 1, 0, 0, tzinfo=UTC)
    assert parsed(line, ZoneInfo("America/New_York")).timestamp == datetime(2026, 7, 1, 7, 0, tzinfo=UTC)


@pytest.mark.parametrize("line", ["", "2026-13-40 03:00:00 install x", "\0\0\0", "no time here"])
def test_a_line_that_is_not_dpkgs_is_kept(line):
    event = parsed(line)
    assert (event.action, event.status, event.timestamp) == ("dpkg.unparsed", "attempt", THEN)


@given(st.binary())
def test_any_line_is_an_event(line):
    row = parsed(line).columns()
    assert row["hash"] == parsed(line).columns()["hash"]
    assert "\0" not in row["outcome_description"]


def lines(first: int, last: int) -> bytes:
    return b"".join(b"2026-11-23 03:00:%02d install p%d <none> 1\n" % (n % 60, n) for n in range(first, last))


def packages(items):
    return [int(event.target_resource_id[1:]) for event, _cursor in items]


def take(log, cursor=None, count=10_000):
    """Return the numbers of up to ``count`` packages and the cursor after them."""
    items = [item for item, _n in zip(read_log(log, "db1", cursor, until=None, zone=UTC), range(count), strict=False)]
    return packages(items), (items[-1][1] if items else cursor)


def test_the_cursor_survives_rotation_and_compression(tmp_path):
    log = tmp_path / "dpkg.log"
    log.write_bytes(lines(0, 10))
    assert take(log)[0] == list(range(10))
    numbers, cursor = take(log, count=4)
    assert numbers == [0, 1, 2, 3]

    log.rename(tmp_path / "dpkg.log.1")
    log.write_bytes(lines(10, 12))
    numbers, cursor = take(log, cursor, count=3)
    assert numbers == [4, 5, 6]

    (tmp_path / "dpkg.log.2.gz").write_bytes(gzip.compress((tmp_path / "dpkg.log.1").read_bytes()))
    (tmp_path / "dpkg.log.1").unlink()
    log.rename(tmp_path / "dpkg.log.1")
    log.write_bytes(lines(12, 13))
    numbers, cursor = take(log, cursor)
    assert numbers == [7, 8, 9, 10, 11, 12]
    assert take(log, cursor) == ([], cursor)


def test_a_file_that_is_being_compressed_is_read_once(tmp_path):
    log = tmp_path / "dpkg.log"
    (tmp_path / "dpkg.log.2").write_bytes(lines(0, 10))
    (tmp_path / "dpkg.log.2.gz").write_bytes(gzip.compress(lines(0, 10)))
    assert take(log)[0] == list(range(10))


def test_a_log_that_was_emptied_starts_again(tmp_path):
    log = tmp_path / "dpkg.log"
    log.write_bytes(lines(0, 3))
    _numbers, cursor = take(log)
    log.write_bytes(lines(3, 5))
    assert take(log, cursor)[0] == [3, 4]


def test_a_line_that_is_being_written_waits(tmp_path):
    log = tmp_path / "dpkg.log"
    log.write_bytes(lines(0, 1)[:-1])
    assert take(log) == ([], None)
    log.write_bytes(lines(0, 2)[:-5])
    numbers, cursor = take(log)
    assert numbers == [0]
    log.write_bytes(lines(0, 2))
    assert take(log, cursor)[0] == [1]


def test_a_log_that_was_cut_is_reported(tmp_path):
    log = tmp_path / "dpkg.log"
    log.write_bytes(lines(0, 3))
    _numbers, cursor = take(log)
    assert shrunken(log, cursor) == []
    log.write_bytes(lines(0, 2))
    assert shrunken(log, cursor) == [str(log)]
    assert take(log, cursor)[0] == []


def test_until_leaves_the_rest_for_later(tmp_path):
    log = tmp_path / "dpkg.log"
    log.write_bytes(lines(0, 10))
    until = datetime(2026, 11, 23, 3, 0, 4, tzinfo=UTC)
    items = list(read_log(log, "db1", None, until=until, zone=UTC))
    assert packages(items) == [0, 1, 2, 3, 4]
    assert take(log, items[-1][1])[0] == [5, 6, 7, 8, 9]


def test_other_files_are_left_alone(tmp_path):
    for name in ("dpkg.log.bak", "dpkg.log.1~", "dpkg.log2", "alternatives.log"):
        (tmp_path / name).write_bytes(lines(0, 1))
    assert find_files(tmp_path / "dpkg.log") == []


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "dpkg.log.2.gz").write_bytes(b"no gzip")
    with pytest.raises(PostgresqlError, match=r"dpkg.log.2.gz is damaged"):
        find_files(tmp_path / "dpkg.log")


def test_the_cursor_is_json_of_offsets(tmp_path):
    log = tmp_path / "dpkg.log"
    log.write_bytes(lines(0, 2))
    assert list(json.loads(take(log)[1]).values()) == [len(lines(0, 2))]
