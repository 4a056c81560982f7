"""postgresql_roles against real servers: the twelve steps, passwords, memberships, missing rights, faults."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest

MODULE = "postgresql_roles"
ATTRIBUTES = """SELECT rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolinherit, rolreplication, rolbypassrls,
                rolconnlimit FROM pg_roles WHERE rolname = %s"""


@pytest.fixture(autouse=True)
def no_roles_left(server, role_prefix) -> Iterator[None]:
    yield
    admin = server.connect()
    with admin.cursor() as cursor:
        cursor.execute("SELECT rolname FROM pg_roles WHERE starts_with(rolname, %s) ORDER BY oid DESC", (role_prefix,))
        names = [name for (name,) in cursor.fetchall()]
        if names:
            quoted = ", ".join(f'"{name}"' for name in names)
            cursor.execute(f"DROP OWNED BY {quoted} CASCADE")
            cursor.execute(f"DROP ROLE {quoted}")
    admin.close()


@pytest.fixture
def provisioner(database, role_prefix) -> dict[str, Any]:
    """Return connection options of a login that is no superuser but may create roles and databases."""
    name, password = f"{role_prefix}provisioner", secrets.token_urlsafe(12)
    database.query(f"CREATE ROLE {name} LOGIN CREATEDB CREATEROLE PASSWORD '{password}'")
    return {"login_user": name, "login_password": password}


def verifier(database, name: str) -> str | None:
    return database.value("SELECT rolpassword FROM pg_authid WHERE rolname = %s", (name,))


def members(database, group: str) -> set[str]:
    rows = database.query(
        "SELECT u.rolname FROM pg_auth_members m JOIN pg_roles u ON u.oid = m.member "
        "JOIN pg_roles g ON g.oid = m.roleid WHERE g.rolname = %s",
        (group,),
    )
    return {name for (name,) in rows}


def can_log_in(database, name: str, password: str) -> bool:
    try:
        database.server.connect(database.name, name, password).close()
    except psycopg2.OperationalError as error:
        assert "password authentication failed" in str(error)
        return False
    return True


def test_twelve_steps(database, role_prefix):
    owner, writer, word = f"{role_prefix}owner", f"{role_prefix}writer", secrets.token_urlsafe(16)
    first = [
        {"name": owner},
        {
            "name": writer,
            "login": True,
            "password": word,
            "member_of": [owner],
            "inherit": False,
            "connection_limit": 7,
            "settings": {"lock_timeout": "5s", "search_path": ["audit", "public"]},
            "comment": "The application",
            "valid_until": "2099-01-01 00:00:00+00",
        },
    ]

    # 1, 2: create
    planned = database.module(MODULE, check=True, roles=first)
    assert planned["changed"] and planned["queries"] and planned["executed_queries"] == []
    assert database.query(ATTRIBUTES, (writer,)) == []
    done = database.module(MODULE, roles=first)
    assert done["changed"] and done["queries"] == done["executed_queries"] == planned["queries"]
    assert done["diff"]["after"].startswith(f'CREATE ROLE "{owner}"')
    assert database.query(ATTRIBUTES, (owner,)) == [(False, False, False, False, True, False, False, -1)]
    assert database.query(ATTRIBUTES, (writer,)) == [(True, False, False, False, False, False, False, 7)]
    assert verifier(database, writer).startswith("SCRAM-SHA-256$4096:")
    assert can_log_in(database, writer, word)
    assert members(database, owner) == {writer}
    settings = "SELECT s.setconfig FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole WHERE rolname = %s"
    assert database.value(settings, (writer,)) == ["lock_timeout=5s", "search_path=audit, public"]
    comment = "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = %s"
    assert database.value(comment, (writer,)) == "The application"

    # 3, 4: again
    for check in (True, False):
        again = database.module(MODULE, check=check, roles=first)
        assert not again["changed"] and again["queries"] == []

    # 5, 6: modify
    new_word = secrets.token_urlsafe(16)
    second = [
        {"name": owner, "createdb": True},
        {
            "name": writer,
            "login": True,
            "password": new_word,
            "member_of": [],
            "settings": {"lock_timeout": None, "search_path": "audit"},
            "comment": "",
            "valid_until": "infinity",
        },
    ]
    planned = database.module(MODULE, check=True, roles=second)
    assert planned["changed"]
    assert can_log_in(database, writer, word) and members(database, owner) == {writer}
    done = database.module(MODULE, roles=second)
    assert done["executed_queries"] == planned["queries"]
    assert database.query(ATTRIBUTES, (owner,))[0][2] is True
    assert database.query(ATTRIBUTES, (writer,)) == [(True, False, False, False, True, False, False, -1)]
    assert can_log_in(database, writer, new_word) and not can_log_in(database, writer, word)
    assert members(database, owner) == set()
    assert database.value(settings, (writer,)) == ["search_path=audit"]
    assert database.value(comment, (writer,)) is None

    # 7, 8: again
    for check in (True, False):
        assert not database.module(MODULE, check=check, roles=second)["changed"]

    # 9, 10: delete
    gone = [{"name": owner, "state": "absent"}, {"name": writer, "state": "absent"}]
    assert database.module(MODULE, check=True, roles=gone)["changed"]
    assert len(database.query(ATTRIBUTES, (owner,))) == 1
    assert database.module(MODULE, roles=gone)["executed_queries"] == [f'DROP ROLE "{owner}"', f'DROP ROLE "{writer}"']
    assert database.query(ATTRIBUTES, (owner,)) == [] == database.query(ATTRIBUTES, (writer,))

    # 11, 12: delete the missing
    for check in (True, False):
        assert not database.module(MODULE, check=check, roles=gone)["changed"]


def test_no_password_and_no_verifier_is_shown_logged_or_kept_in_statistics(database, role_prefix):
    database.query("CREATE EXTENSION pg_stat_statements")
    name, word = f"{role_prefix}writer", f"canary-{secrets.token_urlsafe(16)}"
    results = [
        database.module(MODULE, check=check, roles=[{"name": name, "login": True, "password": word + changed}])
        for changed in ("", "2")
        for check in (True, False)
    ]
    assert all(result["changed"] for result in results)
    stored = verifier(database, name)
    for result in results:
        text = json.dumps(result)
        assert word not in text and stored not in text and "SCRAM-SHA-256$" not in text
        assert any("PASSWORD '********'" in query for query in result["queries"])
    seen = database.query("SELECT query FROM pg_stat_statements WHERE query LIKE %s", (f"%{name}%",))
    assert any("CREATE ROLE" in query for (query,) in seen)  # statistics are on
    assert not any("SCRAM" in query or word in query for (query,) in seen)


def test_a_failing_password_statement_shows_no_verifier(database, role_prefix):
    name, word = f"{role_prefix}writer", f"canary-{secrets.token_urlsafe(16)}"
    # A trigger cannot watch roles: a read-only transaction refuses the statement all the same.
    database.query(f"CREATE ROLE {name} LOGIN")
    options = {"connect_params": {"options": "-c default_transaction_read_only=on"}}
    failed = database.failure(MODULE, roles=[{"name": name, "login": True, "password": word}], **options)
    assert failed["sqlstate"] == "25006"
    assert failed["failed_statement"] == f"ALTER ROLE \"{name}\" PASSWORD '********'"
    assert word not in json.dumps(failed) and "SCRAM-SHA-256$" not in json.dumps(failed)
    assert verifier(database, name) is None


def test_md5_is_replaced(database, role_prefix):
    name, word = f"{role_prefix}old", secrets.token_urlsafe(16)
    hashed = hashlib.md5((word + name).encode()).hexdigest()
    database.query(f"CREATE ROLE {name} LOGIN PASSWORD 'md5{hashed}'")
    assert database.module(MODULE, roles=[{"name": name, "login": True, "password": word}])["changed"]
    assert verifier(database, name).startswith("SCRAM-SHA-256$")


@pytest.mark.parametrize(
    "word", ["pa\u00adss\u00a0w\u00f6rd", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "\u2168", "a\u0627", "quo'te\\ \"$"]
)
def test_a_password_outside_ascii_lets_in(database, role_prefix, word):
    role = {"name": f"{role_prefix}writer", "login": True, "password": word}
    assert database.module(MODULE, roles=[role])["changed"]
    assert can_log_in(database, role["name"], word)
    assert not database.module(MODULE, roles=[role])["changed"]


def test_a_ready_verifier_is_taken_as_it_is(database, role_prefix):
    role = {"name": f"{role_prefix}writer", "login": True, "password": "secret-word-1"}
    database.module(MODULE, roles=[role])
    ready = verifier(database, role["name"])
    database.query(f"ALTER ROLE {role['name']} PASSWORD NULL")
    assert database.module(MODULE, roles=[{**role, "password": ready}])["changed"]
    assert can_log_in(database, role["name"], "secret-word-1")
    assert not database.module(MODULE, roles=[{**role, "password": ready}])["changed"]


def test_undeclared_memberships_end_or_are_named(database, role_prefix):
    owner, reader, stranger = (f"{role_prefix}{name}" for name in ("owner", "reader", "stranger"))
    database.query(f"CREATE ROLE {stranger}; CREATE ROLE {owner} ROLE {stranger}; CREATE ROLE {reader} IN ROLE {owner}")
    roles = [{"name": owner, "members": []}, {"name": reader, "member_of": []}]
    kept = database.module(MODULE, roles=roles, exact_memberships=False)
    assert not kept["changed"]
    assert {entry["member"] for entry in kept["undeclared_memberships"]} == {stranger, reader}
    assert database.module(MODULE, roles=roles)["changed"]
    assert members(database, owner) == set()
    # What is not given is not managed.
    database.query(f"GRANT {owner} TO {stranger}")
    assert not database.module(MODULE, roles=[{"name": owner}])["changed"]


def test_noinherit_members_must_set_role(database, role_prefix):
    owner, migrator = f"{role_prefix}owner", f"{role_prefix}migrator"
    roles = [
        {"name": owner, "members": [migrator]},
        {"name": migrator, "login": True, "inherit": False, "password": "correct horse"},
    ]
    database.module(MODULE, roles=roles)
    database.query(f"CREATE SCHEMA audit AUTHORIZATION {owner}")
    connection = database.server.connect(database.name, migrator, "correct horse")
    with connection.cursor() as cursor:
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute("CREATE TABLE audit.t ()")
        cursor.execute(f"SET ROLE {owner}; CREATE TABLE audit.t ()")
    connection.close()
    if database.version >= 16:  # a membership that inherits beside a NOINHERIT role is drift
        database.query(f"GRANT {owner} TO {migrator} WITH INHERIT TRUE")
        assert database.module(MODULE, roles=roles)["changed"]
        assert not database.module(MODULE, roles=roles)["changed"]
        assert not database.value(f"SELECT pg_has_role('{migrator}', '{owner}', 'USAGE')")


def test_every_contradiction_is_named_and_nothing_changed(database, role_prefix):
    a, b = f"{role_prefix}a", f"{role_prefix}b"
    roles = [
        {"name": a, "password": "word"},
        {"name": a},
        {"name": b, "login": True, "password": "", "member_of": [b]},
        {"name": "pg_mine"},
    ]
    failed = database.failure(MODULE, roles=roles)
    assert len(failed["faults"]) == 5, failed
    assert not failed["changed"]
    missing = database.failure(MODULE, roles=[{"name": a, "members": ["nobody_of_this_name"]}])
    assert "nobody_of_this_name, which does not exist" in missing["msg"]
    assert database.query(ATTRIBUTES, (a,)) == []


def test_a_failure_leaves_nothing(database, role_prefix):
    a, b = f"{role_prefix}a", f"{role_prefix}b"
    failed = database.failure(MODULE, roles=[{"name": a}, {"name": b, "settings": {"no_such_parameter": 1}}])
    assert failed["sqlstate"] == "42704" and not failed["changed"]
    assert database.query(ATTRIBUTES, (a,)) == []


def test_a_role_that_owns_something_stays(database, role_prefix):
    owner = f"{role_prefix}owner"
    database.query(f"CREATE ROLE {owner}; CREATE SCHEMA audit AUTHORIZATION {owner}")
    failed = database.failure(MODULE, roles=[{"name": owner, "state": "absent"}])
    assert failed["sqlstate"] == "2BP01" and failed["remedy"]


class TestAnOrdinaryLogin:
    """A login that may create roles and databases and is no superuser, as on a managed service."""

    def roles(self, prefix: str, word: str) -> list[dict[str, Any]]:
        return [
            {"name": f"{prefix}owner", "members": ["CURRENT_USER", f"{prefix}migrator"]},
            {
                "name": f"{prefix}migrator",
                "login": True,
                "password": word,
                "inherit": False,
                "member_of": [f"{prefix}owner"],
            },
            {"name": f"{prefix}backup", "login": True, "password": word, "replication": True},
            {"name": f"{prefix}monitor", "login": True, "password": word, "member_of": ["pg_monitor"]},
        ]

    def test_missing_rights_are_all_named_before_anything_changes(self, database, role_prefix, provisioner):
        roles = self.roles(role_prefix, "word-of-all")
        failed = database.failure(MODULE, roles=roles, **provisioner)
        expected = {f"make role {role_prefix}backup REPLICATION"}
        if database.version >= 16:
            expected.add(f"make {role_prefix}monitor a member of pg_monitor")
        assert {entry["what"] for entry in failed["skipped_rights"]} == expected
        assert failed["sqlstate"] == "42501" and "ALTER ROLE" in failed["remedy"]
        assert database.query(ATTRIBUTES, (f"{role_prefix}owner",)) == []

    def test_the_rest_is_done_and_done_again_without_change(self, database, role_prefix, provisioner):
        roles = self.roles(role_prefix, "word-of-all")
        options = {"roles": roles, "missing_rights": "skip", **provisioner}
        planned = database.module(MODULE, check=True, **options)
        first = database.module(MODULE, **options)
        assert first["executed_queries"] == planned["queries"]
        assert first["skipped_rights"] and all(entry["remedy"] for entry in first["skipped_rights"])
        assert can_log_in(database, f"{role_prefix}backup", "word-of-all")
        second = database.module(MODULE, **options)
        assert not second["changed"] and second["unproven_passwords"] == {}
        assert second["skipped_rights"] == first["skipped_rights"]
        # It may act as the owner: create its database and schema.
        connection = database.server.connect("postgres", provisioner["login_user"], provisioner["login_password"])
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {role_prefix}db OWNER {role_prefix}owner")
            cursor.execute(f"DROP DATABASE {role_prefix}db")
        connection.close()

    def test_a_changed_password_is_noticed_by_logging_in(self, database, role_prefix, provisioner):
        role = {"name": f"{role_prefix}writer", "login": True, "password": "one word"}
        database.module(MODULE, roles=[role], **provisioner)
        changed = {**role, "password": "another word"}
        planned = database.module(MODULE, check=True, roles=[changed], **provisioner)
        assert planned["queries"] == [f"ALTER ROLE \"{role['name']}\" PASSWORD '********'"]
        assert can_log_in(database, role["name"], "one word")
        assert database.module(MODULE, roles=[changed], **provisioner)["changed"]
        assert can_log_in(database, role["name"], "another word")

    def test_a_password_is_proven_where_the_role_may_not_connect(self, database, role_prefix, provisioner):
        role = {"name": f"{role_prefix}writer", "login": True, "password": "one word"}
        database.module(MODULE, roles=[role], **provisioner)
        database.query(f"REVOKE CONNECT ON DATABASE {database.name} FROM PUBLIC")
        database.query(f"GRANT CONNECT ON DATABASE {database.name} TO {provisioner['login_user']}")
        assert not database.module(MODULE, roles=[role], **provisioner)["changed"]
        assert database.module(MODULE, roles=[{**role, "password": "another"}], **provisioner)["changed"]

    def test_a_role_of_somebody_else_is_named(self, database, role_prefix, provisioner):
        name = f"{role_prefix}theirs"
        database.query(f"CREATE ROLE {name} SUPERUSER")
        failed = database.failure(MODULE, roles=[{"name": name}], **provisioner)
        assert f"{name} is a superuser" in failed["msg"] or "only a superuser may" in failed["msg"]
        assert database.query(ATTRIBUTES, (name,))[0][1] is True

    def test_without_createrole_all_is_named(self, database, role_prefix, provisioner):
        database.query(f"ALTER ROLE {provisioner['login_user']} NOCREATEROLE")
        failed = database.failure(MODULE, roles=[{"name": f"{role_prefix}x", "login": True}], **provisioner)
        assert "is not CREATEROLE" in failed["msg"] and "CREATEROLE" in failed["remedy"]


def test_a_superuser_is_no_member_of_what_it_makes(database, role_prefix):
    owner = f"{role_prefix}owner"
    database.module(MODULE, roles=[{"name": owner, "members": ["CURRENT_USER"]}])
    assert members(database, owner) == set()


def test_passwords_apart_from_roles(database, role_prefix):
    owner, writer, word = f"{role_prefix}owner", f"{role_prefix}writer", f"canary-{secrets.token_urlsafe(12)}"
    roles = [{"name": owner}, {"name": writer, "login": True}]
    passwords = {owner: "not for a role that cannot log in", writer: word, "somebody_else": "unused"}
    done = database.module(MODULE, roles=roles, passwords=passwords)
    assert can_log_in(database, writer, word) and verifier(database, owner) is None
    assert word not in json.dumps(done)
    assert not database.module(MODULE, roles=roles, passwords=passwords)["changed"]


def test_two_runs_at_once_end_in_one_state(database, role_prefix):
    """The loser of a race fails as a whole; the next run finds nothing to do."""
    role = {"name": f"{role_prefix}x"}
    other = database.server.connect(database.name)
    other.autocommit = False
    with other.cursor() as cursor, contextlib.closing(other):
        cursor.execute(f"CREATE ROLE {role['name']}")
        options = {"connect_params": {"options": "-c lock_timeout=300ms"}}
        failed = database.failure(MODULE, roles=[role], **options)
        assert failed["sqlstate"] == "55P03"
        other.commit()
    assert not database.module(MODULE, roles=[role])["changed"]
