"""The pattern of all tables but the listed ones, the lines of the health report, and what Pgpool is told."""

from __future__ import annotations

import re

import pytest
from ansible_collections.auditdb.postgresql.plugins.filter.pgpool import FilterModule

from .programs import program

all_but, pgpool_rows = (FilterModule().filters()[name] for name in ("all_but", "pgpool_rows"))


@pytest.mark.parametrize("names", [["ref"], ["ref", "audit.ref"], ["a", "ab", "abc", "b$1", "x.y"], []])
def test_the_pattern_matches_every_name_but_the_listed_ones(names):
    pattern = all_but(names)
    assert "," not in pattern and "'" not in pattern
    others = {"", "z", ".", "other", "audit_ref", "audit.other"}
    for name in names:
        others |= {name[:-1], f"{name}x", f"x{name}", name.replace(".", "_"), f"{name}.", f"public.{name}"}
    assert [name for name in names if re.search(pattern, name)] == []
    assert [name for name in others - {*names} if not re.search(pattern, name)] == []


def node(name: str, role: str, status: str = "up", found: str = "") -> dict[str, str]:
    return {"hostname": name, "port": "5432", "role": role, "pg_role": found or role, "status": status}


WELL = [node("db1", "primary"), node("db2", "standby", found="unknown")]


@pytest.mark.parametrize(
    ("nodes", "finding"),
    [
        ([], "could not look: nobody is there"),
        ([node("db1", "standby")], "no server takes writes"),
        ([WELL[0], node("db2", "standby", "down")], "db2:5432 is down"),
        ([WELL[0], node("db2", "standby", found="primary")], "db2:5432 is taken for a standby, and is a primary"),
    ],
)
def test_what_is_not_well_is_a_finding(nodes, finding):
    (row,) = pgpool_rows({"nodes": nodes, "msg": "nobody is there"}, "cache1")
    assert row["status"] == "failed" and finding in " ".join(row["findings"]) and row["remedy"]


@pytest.mark.parametrize(
    ("asked", "hits", "told"), [(10, 90, "90 % of 100"), (0, 0, "0 % of 0"), (900, 100, "below 70 %")]
)
def test_the_share_of_hits_is_told(asked, hits, told):
    cache = [{"num_selects": str(asked), "num_cache_hits": str(hits)}]
    first, second = pgpool_rows({"nodes": WELL, "cache": cache, "cached": True}, "cache1")
    assert (first["status"], first["findings"]) == ("ok", [])
    assert second["status"] == "ok" and told in second["findings"][0]
    assert len(pgpool_rows({"nodes": WELL, "cache": cache, "cached": False}, "cache1")) == 1


@pytest.fixture(scope="module")
def told():
    return program("pgpool", "auditdb-pgpool").told


@pytest.mark.parametrize(
    ("standby", "status", "role", "command"),
    [
        # Primary and standby, as Pgpool has them.
        ((False, True), "22", ("primary", "standby"), None),
        # The standby was promoted, the old primary is gone or follows.
        ((None, False), "22", ("primary", "standby"), "pcp_promote_node 1"),
        ((True, False), "22", ("primary", "standby"), "pcp_promote_node 1"),
        # Two that take writes, and none: Pgpool stays with whom it has.
        ((False, False), "22", ("primary", "standby"), None),
        ((None, True), "22", ("primary", "standby"), None),
        ((None, None), "22", ("primary", "standby"), None),
        # Left out after a promotion: back once it follows, and not before.
        ((True, False), "32", ("standby", "primary"), "pcp_attach_node 0"),
        ((False, False), "32", ("standby", "primary"), None),
        ((None, False), "32", ("standby", "primary"), None),
        # The only one that takes writes was left out.
        ((False, True), "32", ("standby", "standby"), "pcp_attach_node 0"),
    ],
)
def test_what_pgpool_is_told(told, standby, status, role, command):
    found = told(*(dict(zip("01", each, strict=True)) for each in (standby, status, role)))
    assert (found and f"{found[0]} {found[2]}") == command
