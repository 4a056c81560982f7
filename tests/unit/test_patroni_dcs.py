"""The settings that a Patroni cluster shares: what differs is patched, what is not declared is taken out."""

from __future__ import annotations

import pytest
from ansible_collections.auditdb.postgresql.plugins.filter.patroni import FilterModule

dcs_change = FilterModule().filters()["dcs_change"]
LIVE = {
    "ttl": 20,
    "synchronous_mode": True,
    "postgresql": {"parameters": {"max_connections": "100"}, "use_slots": True},
}


@pytest.mark.parametrize(
    ("live", "wanted", "patch", "lines"),
    [
        (LIVE, LIVE, {}, []),
        ({"ttl": "20", "a": "on"}, {"ttl": 20, "a": True}, {}, []),
        ({"ttl": 60}, {"ttl": 20}, {"ttl": 20}, ["ttl: 60 -> 20"]),
        ({"synchronous_mode": True}, {"synchronous_mode": "quorum"}, {"synchronous_mode": "quorum"}, None),
        ({"ttl": 20, "more": 1}, {"ttl": 20}, {"more": None}, ["more: 1 -> (none)"]),
        ({"ttl": 20, "pause": True}, {"ttl": 20}, {}, []),
        ({"pause": True}, {"pause": False}, {"pause": False}, ["pause: True -> False"]),
        (
            LIVE,
            {**LIVE, "postgresql": {"parameters": {"max_connections": 120}, "use_slots": True}},
            {"postgresql": {"parameters": {"max_connections": 120}}},
            ["postgresql.parameters.max_connections: 100 -> 120"],
        ),
        ({}, {"slots": {"a": {"type": "physical"}}}, {"slots": {"a": {"type": "physical"}}}, None),
        ({"slots": {"a": {}}}, {}, {"slots": None}, ["slots: {'a': {}} -> (none)"]),
    ],
)
def test_changes(live, wanted, patch, lines):
    found = dcs_change(live, wanted, keep=["pause"])
    assert found["patch"] == patch
    assert lines is None or found["lines"] == lines
