"""From declared and actual rights to changes, without a database."""

from __future__ import annotations

from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.grant_model import (
    Catalog,
    Change,
    Declaration,
    Default,
    Grants,
    Item,
    Right,
    SchemaChange,
    SettingChange,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.grant_parse import parse
from ansible_collections.auditdb.postgresql.plugins.module_utils.grant_plan import make_plan, merge
from hypothesis import given
from hypothesis import strategies as st

DATABASE = Item("database", "db", owner="o")
SCHEMA = Item("schema", "s", owner="o")
PUBLIC_SCHEMA = Item("schema", "public", owner="pg")
TABLE = Item("table", "t", "s", owner="o")
OTHER = Item("table", "u", "s", owner="o")
PARTITION = Item("table", "t_1", "s", owner="o", partition=True)
COLUMN = Item("column", "t", "s", "id", owner="o")


def catalog(rights=None, **others):
    everything = dict.fromkeys((DATABASE, SCHEMA, PUBLIC_SCHEMA, TABLE, OTHER, PARTITION), ())
    there = {**everything, **(rights or {})}
    known = {"columns": {("s", "t"): frozenset({"id"})}, "roles": frozenset({"r", "w", "o", "PUBLIC"})}
    return Catalog("me", 17, there, **{**known, **others})


def declared(*grants, **others):
    return Declaration(("s",), tuple(grants), "o", **others)


def right(grantee, privilege, grantor="o", grantable=False):
    return Right(grantor, grantee, privilege, grantable)


def test_nothing_declared_and_nothing_there():
    assert make_plan(declared(), catalog()).changes == ()


def test_the_owners_rights_are_not_in_question():
    assert make_plan(declared(), catalog({TABLE: (right("o", "SELECT"),)})).changes == ()
    grants = Grants("o", {"table": {"s.*": ("SELECT",)}})
    assert make_plan(declared(grants), catalog()).changes == ()


def test_a_pattern_covers_all_but_partitions_and_what_is_named():
    grants = Grants("r", {"table": {"s.*": ("SELECT",), "s.u": ()}})
    assert make_plan(declared(grants), catalog()).changes == (Change("GRANT", ("SELECT",), (TABLE,), ("r",)),)


def test_what_is_taken_comes_first_and_is_said_briefly():
    rights = {
        TABLE: (right("w", "UPDATE"), right("w", "DELETE")),
        OTHER: (right("w", "DELETE"), right("w", "UPDATE")),
        PARTITION: (right("r", "SELECT"),),
    }
    grants = [Grants(role, {"database": {"": ("CONNECT",)}, "schema": {"s": ("USAGE",)}}) for role in ("r", "w")]
    assert make_plan(declared(*grants), catalog(rights)).changes == (
        Change("REVOKE", ("UPDATE", "DELETE"), (TABLE, OTHER), ("w",)),
        Change("REVOKE", ("SELECT",), (PARTITION,), ("r",)),
        Change("GRANT", ("CONNECT",), (DATABASE,), ("r", "w")),
        Change("GRANT", ("USAGE",), (SCHEMA,), ("r", "w")),
    )


def test_taking_a_right_on_a_table_takes_it_on_its_columns():
    rights = {TABLE: (right("w", "SELECT"),), COLUMN: (right("w", "SELECT"),)}
    grants = Grants("w", {"column": {"s.t.id": ("SELECT",)}})
    assert make_plan(declared(grants), catalog(rights)).changes == (
        Change("REVOKE", ("SELECT",), (TABLE,), ("w",)),
        Change("GRANT", ("SELECT",), (COLUMN,), ("w",)),
    )
    assert make_plan(declared(), catalog(rights)).changes == (Change("REVOKE", ("SELECT",), (TABLE,), ("w",)),)


def test_only_the_owners_grants_count():
    rights = {TABLE: (right("r", "SELECT", grantable=True), right("w", "SELECT", grantor="r"))}
    both = [Grants(role, {"table": {"s.t": ("SELECT",)}}) for role in ("r", "w")]
    plan = make_plan(declared(*both), catalog(rights))
    assert plan.changes == (
        Change("REVOKE GRANT OPTION FOR", ("SELECT",), (TABLE,), ("r",), cascade=True),
        Change("GRANT", ("SELECT",), (TABLE,), ("w",)),
    )
    assert plan.foreign == ("SELECT on table s.t to w by r",)


def test_of_the_schema_public_only_create_by_everybody_is_taken():
    rights = {
        PUBLIC_SCHEMA: (right("PUBLIC", "CREATE", "pg"), right("PUBLIC", "USAGE", "pg"), right("r", "CREATE", "pg"))
    }
    changes = make_plan(declared(), catalog(rights)).changes
    assert changes == (Change("REVOKE", ("CREATE",), (PUBLIC_SCHEMA,), ("PUBLIC",)),)
    assert make_plan(declared(revoke_public=False), catalog(rights)).changes == ()


def test_default_rights_of_others_go_and_own_ones_come():
    defaults = {
        Default("o", "function"): (right("PUBLIC", "EXECUTE"),),
        Default("x", "table", "s"): (Right("x", "r", "DELETE"),),
    }
    grants = Grants("r", {}, {"table": ("SELECT",)})
    assert make_plan(declared(grants), catalog(defaults=defaults)).changes == (
        Change("REVOKE", ("EXECUTE",), (Default("o", "function"),), ("PUBLIC",)),
        Change("REVOKE", ("DELETE",), (Default("x", "table", "s"),), ("r",)),
        Change("GRANT", ("SELECT",), (Default("o", "table", "s"),), ("r",)),
    )


def test_what_the_login_may_not_do_is_told_apart():
    theirs = Item("table", "x", "s", owner="them", manageable=False)
    grants = Grants("r", {"table": {"s.*": ("SELECT",)}})
    plan = make_plan(declared(grants), catalog({theirs: ()}))
    assert plan.changes == (Change("GRANT", ("SELECT",), (TABLE, OTHER), ("r",)),)
    assert [entry.what for entry in plan.skipped] == ["grant SELECT on table s.x to r"]


def test_without_grants_rights_are_not_looked_at():
    rights = {TABLE: (right("w", "SELECT"),)}
    declaration = Declaration(("s", "new"), None, "o", create_schemas=True, database_settings={"search_path": "s"})
    assert make_plan(declaration, catalog(rights)).changes == (
        SchemaChange("new", "o", True),
        SettingChange("db", "search_path", "s"),
    )


def test_a_missing_schema_is_missing_only_if_it_is_not_to_be_made():
    assert make_plan(Declaration(("new",), ()), catalog()).missing == ("schema new",)
    grants = Grants("r", {"schema": {"new": ("USAGE",)}})
    plan = make_plan(Declaration(("new",), (grants,), "o", create_schemas=True), catalog())
    assert plan.missing == () and len(plan.changes) == 2


KEYS = st.sets(st.tuples(st.sampled_from(["r", "w"]), st.sampled_from(["SELECT", "INSERT", "DELETE"])))


@given(KEYS, KEYS)
def test_the_difference_is_exact(have, want):
    rights = {TABLE: tuple(right(grantee, privilege) for grantee, privilege in sorted(have))}
    grants = [Grants(grantee, {"table": {"s.t": (privilege,)}}) for grantee, privilege in sorted(want)]
    result = set(have)
    for change in make_plan(declared(*grants), catalog(rights)).changes:
        named = {(grantee, privilege) for grantee in change.grantees for privilege in change.privileges}
        if change.verb == "GRANT":
            assert not named & result
            result |= named
        else:
            assert named <= result
            result -= named
    assert result == want


def test_columns_of_one_table_and_privilege_stand_together():
    other = Item("column", "t", "s", "note", owner="o")
    steps = [("GRANT", item, "w", name, False) for item in (COLUMN, other) for name in ("SELECT", "INSERT")]
    assert merge(steps) == [
        Change("GRANT", ("SELECT",), (COLUMN, other), ("w",)),
        Change("GRANT", ("INSERT",), (COLUMN, other), ("w",)),
    ]


def options(**changed):
    base = {"schemas": ["s"], "grants": [], "owner_role": "o", "create_schemas": False, "public": "revoke"}
    return {**base, "database_settings": None, **changed}


def test_all_means_what_the_version_has():
    grants = [{"role": "r", "tables": {"s.t": ["all"]}, "database": ["temp"]}]
    assert "MAINTAIN" in parse(options(grants=grants), 17).grants[0].rights["table"]["s.t"]
    older = parse(options(grants=grants), 15).grants[0].rights
    assert "MAINTAIN" not in older["table"]["s.t"] and older["database"][""] == ("TEMPORARY",)


def test_every_fault_is_named():
    grants = [
        {
            "role": "r",
            "tables": {"t": ["SELECT"], "x.t": ["SELECT"], "s.t": ["FLY"]},
            "default": {"tables": ["SELECT"]},
        },
        {"role": "r", "functions": {"s.f": ["EXECUTE"]}, "columns": {"s.t": ["SELECT"]}, "schema": {"s": "USAGE"}},
    ]
    try:
        parse(options(grants=grants, owner_role=None, create_schemas=True), 17)
    except PostgresqlError as error:
        assert len(error.details["faults"]) == 8, error.details["faults"]
    else:
        raise AssertionError("no error")
