"""What the lines of ``journalctl -o json`` become."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime

import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils.journal_event import NotAnEventError
from ansible_collections.auditdb.postgresql.plugins.module_utils.journal_systemd import (
    journalctl_command,
    parse_line,
    status_of,
    text_of,
)
from hypothesis import example, given
from hypothesis import strategies as st

# A line of a real journal (systemd 252).
LINE = {
    "_SYSTEMD_UNIT": "init.scope",
    "MESSAGE": "Startup finished in 266ms.",
    "_UID": "0",
    "SYSLOG_IDENTIFIER": "systemd",
    "PRIORITY": "6",
    "_BOOT_ID": "3c10db4a83b442a0aeb8b0de82ed933a",
    "_COMM": "systemd",
    "_HOSTNAME": "db1",
    "_SOURCE_REALTIME_TIMESTAMP": "1795407029052653",
    "__REALTIME_TIMESTAMP": "1795407029052657",
    "__CURSOR": "s=2d62;i=52;b=3c10;m=80d4f73f;t=660e9c631a4f1;x=29a6",
}


def parsed(**changes):
    line = {key: value for key, value in {**LINE, **changes}.items() if value is not ...}
    return parse_line(json.dumps(line), "h", {0: "root"})[0]


def test_a_real_line():
    event, cursor = parse_line(json.dumps(LINE).encode(), "db1", {0: "root"})
    assert cursor == LINE["__CURSOR"]
    assert event.columns() == {
        **event.columns(),
        "timestamp": "2026-11-23T04:10:29.052653Z",
        "principal_id": "root",
        "action": "journal.systemd",
        "target_resource_type": "systemd.unit",
        "target_resource_id": "init.scope",
        "status": "success",
        "outcome_description": "Startup finished in 266ms.",
        "correlation_id": LINE["_BOOT_ID"],
    }
    assert event.details == {**LINE, "source": "journal", "host": "db1"}


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"PRIORITY": "0"}, "failure"),
        ({"PRIORITY": "3"}, "failure"),
        ({"PRIORITY": "4"}, "success"),
        ({"PRIORITY": "7"}, "success"),
        ({"PRIORITY": "8"}, "attempt"),
        ({}, "attempt"),
        ({"PRIORITY": "6", "JOB_TYPE": "start"}, "attempt"),
        ({"PRIORITY": "6", "JOB_TYPE": "start", "JOB_RESULT": "done"}, "success"),
        ({"PRIORITY": "6", "JOB_TYPE": "start", "JOB_RESULT": "timeout"}, "failure"),
    ],
)
def test_status(fields, status):
    assert status_of(fields) == status


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        ([104, 195, 169, 255], "hé\\xff"),
        (["a", "b"], "a\nb"),
        (["a", [98, 0], None], "a\nb\0"),
        ([], ""),
        ([1.0, 256], "1.0\n256"),
        (None, None),
    ],
)
def test_text_of_bytes_and_of_repeated_fields(value, text):
    assert text_of(value) == text


def test_who_and_what():
    assert parsed(_UID="1234").principal_id == "uid:1234"
    assert parsed(_UID=..., _COMM=..., _TRANSPORT="kernel").principal_id == "kernel"
    assert parsed(UNIT="ssh.service").target_resource_id == "ssh.service"
    assert parsed(_SYSTEMD_UNIT=..., _KERNEL_DEVICE="b8:1").target_resource_type == "kernel.device"
    assert parsed(_SYSTEMD_UNIT=..., _HOSTNAME=...).target_resource_id == "h"
    assert parsed(INVOCATION_ID="i1").correlation_id == "i1"


def test_the_time_of_reception_where_the_sender_gave_none():
    for nothing in (..., None, "x", "9" * 30):
        assert parsed(_SOURCE_REALTIME_TIMESTAMP=nothing).timestamp == datetime(2026, 11, 23, 4, 10, 29, 52657, UTC)


def test_a_message_with_nul_is_complete():
    event = parsed(MESSAGE=[97, 0, 98])
    assert event.outcome_description == "ab"
    assert event.details["MESSAGE"] == [97, 0, 98]
    assert parsed(MESSAGE=None).outcome_description is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"MESSAGE": "cut o', "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"__REALTIME_TIMESTAMP": "1"}', "no __CURSOR"),
        ('{"__CURSOR": "s=1"}', "no __REALTIME_TIMESTAMP"),
        ("[" * 100_000, "not JSON"),
        (b"\xff\xfe{", "not JSON"),
    ],
)
def test_what_is_no_entry_is_refused(line, reason):
    with pytest.raises(NotAnEventError, match=reason):
        parse_line(line, "h", {})


def test_the_command():
    assert journalctl_command("s=1;i=2", datetime(2026, 11, 23, tzinfo=UTC), "/j") == [
        *("journalctl", "--output=json", "--all", "--no-pager", "--quiet"),
        *("--directory=/j", "--until=@1795392000.000000", "--cursor=s=1;i=2"),
    ]


FIELD = st.sampled_from(
    [
        "MESSAGE",
        "PRIORITY",
        "_UID",
        "_COMM",
        "UNIT",
        "SYSLOG_IDENTIFIER",
        "JOB_RESULT",
        "_SOURCE_REALTIME_TIMESTAMP",
        "_BOOT_ID",
        "X",
    ]
)
TEXT = st.text(st.characters(codec=None))
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT, lambda v: st.lists(v) | st.dictionaries(TEXT, v)
)


@given(st.dictionaries(FIELD | TEXT, VALUE))
@example({"_COMM": [0]})
def test_any_entry_becomes_an_event_with_a_stable_hash(fields):
    line = json.dumps({**fields, "__CURSOR": "s=1", "__REALTIME_TIMESTAMP": "1795407029052657"})
    row = parse_line(line, "h", {0: "root"})[0].columns()
    assert row == parse_line(line, "h", {0: "root"})[0].columns()
    for name in ("principal_id", "action", "target_resource_type", "target_resource_id"):
        assert row[name] and len(row[name]) <= 255
    for value in row.values():
        assert value is None or "\0" not in value.encode("utf-8").decode("utf-8")


@given(st.text() | VALUE.map(json.dumps))
def test_any_line_is_an_event_or_is_refused(line):
    with contextlib.suppress(NotAnEventError):
        parse_line(line, "h", {})
