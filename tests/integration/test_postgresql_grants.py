"""postgresql_grants against real servers: the twelve steps, exactness, refusals tried by real logins, faults."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg2
import pytest
from psycopg2.errors import InsufficientPrivilege

MODULE = "postgresql_grants"
SCHEMA = """
CREATE SCHEMA audit AUTHORIZATION {owner};
SET ROLE {owner};
CREATE TABLE audit.log (id bigint GENERATED ALWAYS AS IDENTITY, "timestamp" timestamptz, note text)
    PARTITION BY RANGE ("timestamp");
CREATE TABLE audit.log_2026_11 PARTITION OF audit.log FOR VALUES FROM ('2026-11-01+00') TO ('2026-12-01+00');
CREATE TABLE audit."Odd ""name" (a int);
CREATE TABLE audit.secret (a int);
CREATE VIEW audit.report AS SELECT note FROM audit.log;
CREATE SEQUENCE audit.counter;
CREATE FUNCTION audit.mark(a timestamptz, b timestamptz) RETURNS int LANGUAGE sql AS 'SELECT 1';
RESET ROLE;
"""
RIGHTS = """
SELECT 'database ' || datname, a.grantee::regrole::text, a.privilege_type FROM pg_database, aclexplode(datacl) a
WHERE datname = current_database() AND a.grantee <> datdba AND a.grantor = datdba
UNION ALL SELECT nspname, a.grantee::regrole::text, a.privilege_type FROM pg_namespace, aclexplode(nspacl) a
WHERE nspname = 'audit' AND a.grantee <> nspowner
UNION ALL SELECT relname, a.grantee::regrole::text, a.privilege_type FROM pg_class, aclexplode(relacl) a
WHERE relnamespace = 'audit'::regnamespace AND a.grantee <> relowner
UNION ALL SELECT relname || '.' || attname, a.grantee::regrole::text, a.privilege_type
FROM pg_attribute JOIN pg_class c ON c.oid = attrelid, aclexplode(attacl) a WHERE relnamespace = 'audit'::regnamespace
UNION ALL SELECT proname, a.grantee::regrole::text, a.privilege_type
FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) a
WHERE pronamespace = 'audit'::regnamespace AND a.grantee <> proowner
"""


@dataclass
class World:
    """A database with objects, and roles that can log in: ``name('writer')`` is a role's real name."""

    database: Any
    prefix: str
    password: str

    def name(self, role: str) -> str:
        return f"{self.prefix}{role}"

    def grants(self) -> list[dict[str, Any]]:
        base = {"database": ["CONNECT"], "schema": {"audit": ["USAGE"]}}
        return [
            {
                "role": self.name("writer"),
                **base,
                "tables": {"audit.log": ["INSERT"]},
                "columns": {"audit.log.id": ["SELECT"], "audit.log.timestamp": ["SELECT"]},
                "sequences": {"audit.counter": ["USAGE"]},
            },
            {
                "role": self.name("reader"),
                **base,
                "tables": {"audit.*": ["SELECT"], "audit.secret": []},
                "default": {"tables": ["SELECT"]},
            },
            {"role": self.name("keeper"), **base, "functions": {"audit.mark(timestamptz, timestamptz)": ["EXECUTE"]}},
        ]

    def options(self, **more: Any) -> dict[str, Any]:
        return {"schemas": ["audit"], "owner_role": self.name("owner"), "grants": self.grants(), **more}

    def rights(self) -> set[tuple[str, str, str]]:
        return {
            (thing, "PUBLIC" if who == "-" else who.removeprefix(self.prefix), what)
            for thing, who, what in self.database.query(RIGHTS)
        }

    def run_as(self, role: str, statement: str) -> None:
        connection = self.database.server.connect(self.database.name, self.name(role), self.password)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()

    def refused(self, role: str, *statements: str) -> None:
        for statement in statements:
            with pytest.raises(InsufficientPrivilege):
                self.run_as(role, statement)


@pytest.fixture
def world(database, role_prefix) -> Iterator[World]:
    world = World(database, role_prefix, secrets.token_urlsafe(12))
    roles = ["writer", "reader", "keeper", "stranger", "provisioner"]
    database.query(f"CREATE ROLE {world.name('owner')}")
    for role in roles:
        database.query(f"CREATE ROLE {world.name(role)} LOGIN PASSWORD '{world.password}'")
    database.query(f"ALTER DATABASE {database.name} OWNER TO {world.name('owner')}")
    database.query(SCHEMA.format(owner=world.name("owner")))
    yield world
    database.query("RESET ROLE")
    database.query(f"ALTER DATABASE {database.name} OWNER TO postgres")
    everybody = ", ".join(world.name(role) for role in ["owner", *roles])
    database.query("DROP SCHEMA audit CASCADE")
    database.query(f"DROP OWNED BY {everybody} CASCADE; DROP ROLE {everybody}")


def expected(world: World) -> set[tuple[str, str, str]]:
    return {
        *((f"database {world.database.name}", role, "CONNECT") for role in ("writer", "reader", "keeper")),
        *(("audit", role, "USAGE") for role in ("writer", "reader", "keeper")),
        ("log", "writer", "INSERT"),
        ("log.id", "writer", "SELECT"),
        ("log.timestamp", "writer", "SELECT"),
        ("counter", "writer", "USAGE"),
        ("log", "reader", "SELECT"),
        ('Odd "name', "reader", "SELECT"),
        ("report", "reader", "SELECT"),
        ("mark", "keeper", "EXECUTE"),
    }


def test_twelve_steps(world):
    database, options = world.database, world.options()
    before = world.rights()

    # 1, 2: create
    planned = database.module(MODULE, check=True, **options)
    assert planned["changed"] and planned["executed_queries"] == [] and world.rights() == before
    done = database.module(MODULE, **options)
    assert done["executed_queries"] == done["queries"] == planned["queries"]
    assert world.rights() == expected(world)
    assert "REVOKE CONNECT, TEMPORARY ON DATABASE" in done["diff"]["after"]
    # 3, 4: again
    for check in (True, False):
        assert not database.module(MODULE, check=check, **options)["changed"]
    # 5, 6: modify
    grants = world.grants()
    grants[0]["tables"] = {"audit.log": ["INSERT", "SELECT"]}
    del grants[0]["columns"], grants[2]
    planned = database.module(MODULE, check=True, **world.options(grants=grants))
    assert planned["changed"] and world.rights() == expected(world)
    assert database.module(MODULE, **world.options(grants=grants))["executed_queries"] == planned["queries"]
    now = {right for right in expected(world) if right[1] != "keeper" and "." not in right[0]}
    assert world.rights() == now | {("log", "writer", "SELECT")}
    # 7, 8: again
    for check in (True, False):
        assert not database.module(MODULE, check=check, **world.options(grants=grants))["changed"]
    # back: the column rights are needed again beside a right on the table that goes
    assert database.module(MODULE, **options)["changed"]
    assert world.rights() == expected(world)
    # 9, 10: delete
    assert database.module(MODULE, check=True, **world.options(grants=[]))["changed"]
    assert world.rights() == expected(world)
    assert database.module(MODULE, **world.options(grants=[]))["changed"]
    assert world.rights() == set()
    # 11, 12: delete the missing
    for check in (True, False):
        assert not database.module(MODULE, check=check, **world.options(grants=[]))["changed"]


def test_what_is_refused_is_refused(world):
    world.database.module(MODULE, **world.options())
    world.run_as("writer", "INSERT INTO audit.log (timestamp, note) VALUES ('2026-11-05', 'x') RETURNING id, timestamp")
    world.run_as("reader", 'SELECT * FROM audit.log; SELECT * FROM audit."Odd ""name"; SELECT * FROM audit.report')
    world.run_as("keeper", "SELECT audit.mark(now(), now())")
    for role in ("writer", "reader", "keeper"):
        for table in ("audit.log", "audit.log_2026_11"):
            world.refused(role, f"UPDATE {table} SET note = ''", f"DELETE FROM {table}", f"TRUNCATE {table}")
        world.refused(
            role, "SELECT * FROM audit.log_2026_11", "INSERT INTO audit.log_2026_11 (timestamp) VALUES ('2026-11-05')"
        )
        world.refused(role, "SELECT * FROM audit.secret", "CREATE TABLE audit.x ()", "CREATE TEMPORARY TABLE x ()")
        world.refused(role, "CREATE TABLE public.x ()")
    world.refused(
        "writer", "SELECT note FROM audit.log", "SELECT audit.mark(now(), now())", "SELECT setval('audit.counter', 1)"
    )
    with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
        world.run_as("stranger", "SELECT")


def test_objects_to_come_are_covered(world):
    world.database.module(MODULE, **world.options())
    world.database.query(f"SET ROLE {world.name('owner')}")
    world.database.query(
        "CREATE TABLE audit.later (a int); CREATE FUNCTION audit.f() RETURNS int LANGUAGE sql AS 'SELECT 1'"
    )
    world.database.query(
        "CREATE TABLE audit.log_2026_12 PARTITION OF audit.log FOR VALUES FROM ('2026-12-01+00') TO ('2027-01-01+00')"
    )
    world.database.query("RESET ROLE")
    world.run_as("reader", "SELECT * FROM audit.later")
    world.refused("reader", "SELECT audit.f()", "DELETE FROM audit.later")
    world.refused("writer", "SELECT * FROM audit.later", "DELETE FROM audit.log_2026_12")
    # A new partition came with default rights: it is closed.
    done = world.database.module(MODULE, **world.options())
    assert done["executed_queries"] == [f'REVOKE SELECT ON TABLE "audit"."log_2026_12" FROM "{world.name("reader")}"']
    world.refused("reader", "SELECT * FROM audit.log_2026_12")


def test_everything_undeclared_goes_whoever_has_it(world):
    query, stranger, owner = world.database.query, world.name("stranger"), world.name("owner")
    world.database.module(MODULE, **world.options())
    query(f"GRANT ALL ON DATABASE {world.database.name} TO {stranger}; GRANT ALL ON SCHEMA audit TO {stranger}, PUBLIC")
    query(f"GRANT ALL ON ALL TABLES IN SCHEMA audit TO {stranger}; GRANT DELETE ON audit.log TO PUBLIC")
    query(f"GRANT UPDATE (note) ON audit.log TO {stranger}; GRANT UPDATE (note) ON audit.log_2026_11 TO {stranger}")
    for kind in ("SEQUENCES", "ROUTINES"):
        query(f"GRANT ALL ON ALL {kind} IN SCHEMA audit TO {stranger}")
    query("GRANT CREATE ON SCHEMA public TO PUBLIC")
    query(f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA audit GRANT ALL ON TABLES TO {stranger}")
    query(f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT ALL ON SEQUENCES TO {stranger}")
    query(f"ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA audit GRANT ALL ON TABLES TO {stranger}")
    done = world.database.module(MODULE, **world.options())
    assert world.rights() == expected(world)
    assert 'REVOKE CREATE ON SCHEMA "public" FROM PUBLIC' in done["queries"]
    left = "SELECT count(*) FROM pg_default_acl, aclexplode(defaclacl) a WHERE a.grantee = %s::regrole"
    assert world.database.value(left, (stranger,)) == 0
    if world.database.version >= 17:
        assert "MAINTAIN" in done["diff"]["after"]
    assert not world.database.module(MODULE, **world.options())["changed"]


def test_a_grant_option_goes_with_what_was_granted_by_it(world):
    world.database.module(MODULE, **world.options())
    world.database.query(f"GRANT SELECT ON audit.log TO {world.name('reader')} WITH GRANT OPTION")
    world.run_as("reader", f"GRANT SELECT ON audit.log TO {world.name('stranger')}, {world.name('writer')}")
    done = world.database.module(MODULE, **world.options())
    assert len(done["foreign_grants"]) == 2 and "by " + world.name("reader") in done["foreign_grants"][0]
    assert done["executed_queries"] == [
        f'REVOKE GRANT OPTION FOR SELECT ON TABLE "audit"."log" FROM "{world.name("reader")}" CASCADE'
    ]
    assert world.rights() == expected(world)
    assert not world.database.module(MODULE, **world.options())["changed"]


def test_a_right_that_only_somebody_else_granted_is_given_by_the_owner(world):
    world.database.module(MODULE, **world.options())
    world.database.query(f"REVOKE INSERT ON audit.log FROM {world.name('writer')}")
    world.database.query(f"GRANT INSERT ON audit.log TO {world.name('stranger')} WITH GRANT OPTION")
    world.database.query(f"GRANT CONNECT ON DATABASE {world.database.name} TO {world.name('stranger')}")
    world.database.query(f"GRANT USAGE ON SCHEMA audit TO {world.name('stranger')}")
    world.run_as("stranger", f"GRANT INSERT ON audit.log TO {world.name('writer')}")
    assert world.database.module(MODULE, **world.options())["changed"]
    assert world.rights() == expected(world)
    assert not world.database.module(MODULE, **world.options())["changed"]


def test_public_can_be_kept(world):
    world.database.module(MODULE, **world.options(public="keep"))
    name = world.database.name
    assert {right for right in world.rights() if right[1] == "PUBLIC"} == {
        (f"database {name}", "PUBLIC", "CONNECT"),
        (f"database {name}", "PUBLIC", "TEMPORARY"),
        ("mark", "PUBLIC", "EXECUTE"),
    }
    assert not world.database.module(MODULE, **world.options(public="keep"))["changed"]


def test_an_extensions_objects_are_left_alone(world):
    world.database.query("CREATE EXTENSION pgcrypto SCHEMA audit; CREATE EXTENSION pg_stat_statements SCHEMA audit")
    world.database.module(MODULE, **world.options())
    world.run_as("writer", "SELECT audit.gen_random_bytes(4); SELECT count(*) FROM audit.pg_stat_statements")


def test_a_schema_and_settings_are_prepared(database, role_prefix):
    owner = f"{role_prefix}owner"
    database.query(f"CREATE ROLE {owner}")
    try:
        options = {
            "schemas": ["audit"],
            "owner_role": owner,
            "create_schemas": True,
            "database_settings": {"search_path": ["audit", "public"], "lock_timeout": None},
        }
        planned = database.module(MODULE, check=True, **options)
        assert planned["queries"] == [
            f'CREATE SCHEMA "audit" AUTHORIZATION "{owner}"',
            f"ALTER DATABASE \"{database.name}\" SET \"search_path\" = 'audit', 'public'",
        ]
        assert database.value("SELECT to_regnamespace('audit') IS NULL")
        assert database.module(MODULE, **options)["executed_queries"] == planned["queries"]
        fresh = database.server.connect(database.name)
        with fresh.cursor() as cursor:
            cursor.execute(
                "SELECT current_setting('search_path'), nspowner::regrole::text FROM pg_namespace "
                "WHERE nspname = 'audit'"
            )
            assert cursor.fetchone() == ("audit, public", owner)
        fresh.close()
        assert not database.module(MODULE, **options)["changed"]
        # Rights were not looked at. Somebody else's schema is handed over.
        assert database.value("SELECT datacl IS NULL FROM pg_database WHERE datname = current_database()")
        database.query("ALTER SCHEMA audit OWNER TO postgres")
        assert database.module(MODULE, **options)["queries"] == [f'ALTER SCHEMA "audit" OWNER TO "{owner}"']
        # In check mode the schema that would be made counts as there.
        database.query("DROP SCHEMA audit")
        grants = [{"role": owner}, {"role": "pg_monitor", "schema": {"audit": ["USAGE"]}}]
        planned = database.module(MODULE, check=True, grants=grants, **options)
        assert 'GRANT USAGE ON SCHEMA "audit" TO "pg_monitor"' in planned["queries"]
    finally:
        database.query(f"DROP SCHEMA IF EXISTS audit; DROP OWNED BY {owner}; DROP ROLE {owner}")


def test_every_fault_of_the_declaration_is_named(world):
    grants = [
        {
            "role": world.name("writer"),
            "tables": {"audit.log": ["EXECUTE"], "nodot": ["SELECT"], "other.t": ["SELECT"]},
        },
        {"role": world.name("reader"), "functions": {"audit.mark": ["EXECUTE"]}, "columns": {"audit.log.id": "SELECT"}},
    ]
    failed = world.database.failure(MODULE, **world.options(grants=grants))
    assert len(failed["faults"]) == 5, failed["faults"]
    before = world.rights()
    maintain = [{"role": world.name("writer"), "tables": {"audit.log": ["MAINTAIN"]}}]
    if world.database.version < 17:
        assert "needs PostgreSQL 17" in world.database.failure(MODULE, **world.options(grants=maintain))["msg"]
        assert world.rights() == before
    else:
        world.database.module(MODULE, **world.options(grants=maintain))
        assert world.rights() == {("log", "writer", "MAINTAIN")}


def test_what_is_not_there_is_named_and_nothing_changed(world):
    before = world.rights()
    grants = [
        {
            "role": world.name("writer"),
            "tables": {"audit.log": ["INSERT"], "audit.logg": ["INSERT"]},
            "columns": {"audit.log.idd": ["SELECT"]},
            "functions": {"audit.mark(int)": ["EXECUTE"]},
        },
        {"role": "nobody_of_this_name", "database": ["CONNECT"]},
    ]
    failed = world.database.failure(MODULE, **world.options(grants=grants))
    assert failed["missing"] == [
        "table audit.logg", "column audit.log.idd", "function audit.mark(int)", "role nobody_of_this_name",
    ]  # fmt: skip
    assert world.rights() == before
    done = world.database.module(MODULE, **world.options(grants=grants, missing_objects="skip"))
    assert done["missing"] == failed["missing"] and world.rights() == {("log", "writer", "INSERT")}


def test_a_partition_is_not_given_away(world):
    grants = [{"role": world.name("reader"), "tables": {"audit.log_2026_11": ["SELECT"]}}]
    failed = world.database.failure(MODULE, **world.options(grants=grants))
    assert "log_2026_11" in failed["msg"] and "partitioned table" in failed["remedy"]


def test_a_login_without_the_owners_rights_changes_nothing(world):
    login = {"login_user": world.name("provisioner"), "login_password": world.password}
    before = world.rights()
    failed = world.database.failure(MODULE, **world.options(), **login)
    assert failed["sqlstate"] == "42501" and f"GRANT {world.name('owner')} TO" in failed["remedy"]
    assert world.rights() == before
    # With them it can do everything but what belongs to others.
    world.database.query(f"GRANT {world.name('owner')} TO {world.name('provisioner')}")
    world.database.query("ALTER SCHEMA public OWNER TO postgres; GRANT CREATE ON SCHEMA public TO PUBLIC")
    failed = world.database.failure(MODULE, **world.options(), **login)
    assert [entry["what"] for entry in failed["skipped_rights"]] == ["revoke CREATE on schema public from PUBLIC"]
    done = world.database.module(MODULE, **world.options(missing_rights="skip"), **login)
    assert done["skipped_rights"] == failed["skipped_rights"]
    assert world.rights() == expected(world)
    assert not world.database.module(MODULE, **world.options(missing_rights="skip"), **login)["changed"]
    world.refused("writer", "DELETE FROM audit.log")


def test_a_failure_half_way_leaves_nothing(world):
    """The last statement fails on a lock; what came before it is rolled back."""
    before = world.rights()
    other = world.database.server.connect(world.database.name)
    other.autocommit = False
    with other.cursor() as cursor:
        cursor.execute(
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {world.name('owner')} IN SCHEMA audit "
            f"GRANT SELECT ON TABLES TO {world.name('reader')}"
        )
        options = {"connect_params": {"options": "-c lock_timeout=300ms"}}
        failed = world.database.failure(MODULE, **world.options(), **options)
    other.rollback()
    other.close()
    assert failed["sqlstate"] == "55P03" and not failed["changed"] and failed["executed_queries"] == []
    assert world.rights() == before
