"""Indexes that are not valid: what is to be done with each, decided without a database."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_indexes import decide, describe_repairs
from psycopg2 import sql


def text(composed):
    """Return the SQL as it would be sent, without a connection to ask how to quote."""
    if isinstance(composed, sql.Composed):
        return "".join(map(text, composed.seq))
    if isinstance(composed, sql.Identifier):
        return ".".join('"' + each.replace('"', '""') + '"' for each in composed.strings)
    return composed.string


TABLE = SimpleNamespace(schema="s", name="log")


def row(what, name, index, **more):
    return {
        "what": what,
        "schema": "s",
        "name": name,
        "busy": False,
        "kind": "r",
        "index": index,
        "contype": None,
        "attached": False,
        "own": None,
        "definition": "USING btree (a) WHERE a > 1",
        "is_unique": False,
        "tablespace": None,
        **more,
    }


def steps(*rows, taken=()):
    return [text(each.statement) for each in decide(TABLE, rows, set(taken))]


@pytest.mark.parametrize(
    ("index", "attached", "statement"),
    [
        ("log_1_a_idx", False, 'REINDEX INDEX CONCURRENTLY "s"."log_1_a_idx"'),
        ("log_1_a_idx", True, 'REINDEX INDEX CONCURRENTLY "s"."log_1_a_idx"'),
        ("log_1_a_idx_ccnew", False, 'DROP INDEX CONCURRENTLY "s"."log_1_a_idx_ccnew"'),
        ("log_1_a_idx_ccold12", False, 'DROP INDEX CONCURRENTLY "s"."log_1_a_idx_ccold12"'),
        ("log_1_a_idx_ccnew", True, 'REINDEX INDEX CONCURRENTLY "s"."log_1_a_idx_ccnew"'),
        ("log_ccnews", False, 'REINDEX INDEX CONCURRENTLY "s"."log_ccnews"'),
    ],
)
def test_only_what_an_interrupted_reindex_left_is_dropped(index, attached, statement):
    assert steps(row("invalid", "log_1", index, attached=attached)) == [statement]


def test_what_an_exclusion_constraint_needs_is_not_built_concurrently():
    [build] = decide(TABLE, [row("invalid", "log_1", "x", contype="x")], set())
    assert text(build.statement) == 'REINDEX INDEX "s"."x"' and not build.concurrently


def test_leftovers_go_first_and_the_tables_indexes_come_last():
    made = steps(
        row("invalid", "log_1", "a"),
        row("invalid", "log_1", "a_ccnew"),
        row("shell", "log_1", "log_a_idx", own="a"),
        row("shell", "log_2", "log_a_idx"),
    )
    assert made == [
        'DROP INDEX CONCURRENTLY "s"."a_ccnew"',
        'REINDEX INDEX CONCURRENTLY "s"."a"',
        'ALTER INDEX "s"."log_a_idx" ATTACH PARTITION "s"."a"',
        'CREATE INDEX CONCURRENTLY "log_2_a_idx" ON "s"."log_2" USING btree (a) WHERE a > 1',
        'ALTER INDEX "s"."log_a_idx" ATTACH PARTITION "s"."log_2_a_idx"',
    ]


def test_one_that_all_have_is_attached_again_to_be_looked_at():
    shells = [row("shell", name, "log_a_idx", own=f"{name}_a_idx", attached=True) for name in ("log_1", "log_2")]
    [build] = decide(TABLE, shells, set())
    assert build.what == "validated" and not build.concurrently
    assert describe_repairs([build]) == [{"partition": "log_1", "index": "log_1_a_idx", "what": "validated"}]


def test_a_partition_of_partitions_cannot_be_completed():
    assert steps(row("shell", "log_1", "log_a_idx", kind="p")) == []


def test_a_tablespace_comes_before_the_condition():
    [create, _attach] = steps(row("shell", "log_1", "log_a_idx", tablespace="fast", is_unique=True))
    assert create.startswith("CREATE UNIQUE INDEX CONCURRENTLY")
    assert create.endswith('USING btree (a) TABLESPACE "fast" WHERE a > 1')


def test_a_constraint_comes_before_the_attaching():
    made = steps(row("shell", "log_1", "log_pkey", contype="p", is_unique=True))
    assert [each.split()[0:2] for each in made] == [["CREATE", "UNIQUE"], ["ALTER", "TABLE"], ["ALTER", "INDEX"]]
    assert 'ADD CONSTRAINT "log_1_pkey" PRIMARY KEY USING INDEX "log_1_pkey"' in made[1]


def test_a_taken_name_is_not_taken_again():
    shells = [row("shell", "log_1", "log_a_idx")]
    name = steps(*shells, taken=["log_1_a_idx"])[0].split()[3]
    assert name != '"log_1_a_idx"' and name == steps(*shells, taken=["log_1_a_idx"])[0].split()[3]
    long = "ö" * 31
    [create, _attach] = steps(row("shell", long, "log_a_idx"))
    assert len(create.split()[3].strip('"').encode()) <= 63
