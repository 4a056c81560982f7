"""The canonical JSON, the hash, and values that PostgreSQL cannot hold."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone

from ansible_collections.auditdb.postgresql.plugins.module_utils.journal_event import (
    canonical_json,
    clean_text,
    make_event,
    shorten,
    storable,
)
from hypothesis import given
from hypothesis import strategies as st

NAMES = {
    "principal_id": "root",
    "action": "journal.su",
    "target_resource_type": "systemd.unit",
    "target_resource_id": "x.service",
}


def event(**changes):
    values = {
        "timestamp": datetime(2026, 11, 23, 4, 5, 6, 700, tzinfo=UTC),
        "names": NAMES,
        "status": "success",
        "outcome_description": "สวัสดี 👋",
        "correlation_id": "b1",
        "details": {"MESSAGE": "สวัสดี 👋", "_PID": "1"},
    }
    return make_event(**{**values, **changes})


def test_canonical_json_is_that_of_jsonb():
    # SELECT '...'::jsonb printed this on PostgreSQL 15 and 17.
    value = {"b": [1, None, True], "aa": {"z": '\x01\t"\\/', "é": "é", "y": "\x7f"}, "a": "x"}
    assert canonical_json(value) == (
        '{"a": "x", "b": [1, null, true], "aa": {"y": "\x7f", "z": "\\u0001\\t\\"\\\\/", "é": "é"}}'
    )


def test_the_hash_is_reproducible_by_hand():
    text = (
        '{"action": "journal.su", "status": "success", "details": {"_PID": "1", "MESSAGE": "สวัสดี 👋"}, '
        '"timestamp": "2026-11-23T04:05:06.000700Z", "principal_id": "root", "event_version": "1.0", '
        '"correlation_id": "b1", "hash_algorithm": "SHA-256", "retention_policy": "standard", '
        '"target_resource_id": "x.service", "data_classification": "INTERNAL", "outcome_description": "สวัสดี 👋", '
        '"target_resource_type": "systemd.unit"}'
    )
    assert event().columns()["hash"] == hashlib.sha256(text.encode()).hexdigest()


def test_the_hash_depends_on_the_instant_and_not_on_its_zone():
    elsewhere = event().timestamp.astimezone(timezone(timedelta(hours=7)))
    assert event(timestamp=elsewhere).columns() == event().columns()


def test_every_column_counts_in_the_hash():
    changes = [
        {"timestamp": datetime(2026, 11, 23, 4, 5, 6, 701, tzinfo=UTC)},
        {"status": "failure"},
        {"outcome_description": None},
        {"correlation_id": None},
        {"details": {"MESSAGE": "สวัสดี 👋", "_PID": "2"}},
        *({"names": {**NAMES, name: "other"}} for name in NAMES),
    ]
    hashes = {event(**change).columns()["hash"] for change in [{}, *changes]}
    assert len(hashes) == len(changes) + 1


def test_what_is_shortened_is_marked_and_kept():
    long = "é" * 256
    row = event(names={**NAMES, "target_resource_id": long}, correlation_id="c" * 300).columns()
    assert row["target_resource_id"] == "é" * 254 + "…"
    assert len(row["correlation_id"]) == 255
    assert json.loads(row["details"])["shortened"] == {"target_resource_id": long, "correlation_id": "c" * 300}
    assert shorten("x" * 255) == "x" * 255


def test_nul_and_surrogates():
    row = event(outcome_description="a\0b\ud800", details={"MESSAGE": "a\0b", "n": [1.5, float("inf")]}).columns()
    assert row["outcome_description"] == "ab\\ud800"
    assert json.loads(row["details"]) == {"MESSAGE": [97, 0, 98], "n": ["1.5", "inf"]}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec=None)), inner),
    max_leaves=8,
)


@given(JSON)
def test_any_value_becomes_one_that_is_stored_as_it_is(value):
    stored = storable(value)
    text = canonical_json(stored)
    assert "\\u0000" not in text.replace("\\\\", "")
    assert canonical_json(json.loads(text)) == text
    assert text.encode("utf-8")


@given(st.text(st.characters(codec=None)))
def test_any_text_becomes_storable(text):
    assert "\0" not in clean_text(text)
    assert clean_text(clean_text(text)) == clean_text(text)
