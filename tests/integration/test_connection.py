"""The connection that every module shares: settings, errors, lock retries."""

from __future__ import annotations

import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils import connection
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError


def test_settings_do_not_depend_on_the_database(database):
    database.query(f"ALTER DATABASE {database.name} SET TimeZone = 'Asia/Amman'")
    session = connection.connect(database.login)
    assert session.query("SHOW TimeZone") == [{"TimeZone": "UTC"}]
    assert session.server_version == database.version


def test_wrong_password_names_the_remedy(database):
    with pytest.raises(PostgresqlError) as failed:
        connection.connect({**database.login, "login_password": "wrong"})
    assert failed.value.sqlstate == "28P01"
    assert "vault" in failed.value.remedy


def test_an_error_keeps_sqlstate_and_statement(database):
    session = connection.connect(database.login)
    with pytest.raises(PostgresqlError) as failed:
        session.execute("CREATE TABLE t (a no_such_type)")
    assert failed.value.sqlstate == "42704"
    assert "no_such_type" in failed.value.statement
    assert session.executed == []


def test_a_failed_transaction_leaves_nothing(database):
    session = connection.connect(database.login)
    with pytest.raises(PostgresqlError), session.transaction():
        session.execute("CREATE TABLE first (a int)")
        session.execute("CREATE TABLE broken (")
    assert session.executed == []
    assert database.value("SELECT to_regclass('first') IS NULL")


def test_a_lost_lock_is_tried_again(database):
    database.query("CREATE TABLE t (a int)")
    holder = database.server.connect(database.name)
    holder.autocommit = False
    holder.cursor().execute("LOCK TABLE t")
    session = connection.connect(database.login)
    session.query("SET lock_timeout = '50ms'")
    tries = []

    def work():
        tries.append(1)
        if len(tries) == 3:
            holder.rollback()
        session.execute("ALTER TABLE t ADD COLUMN b int")

    connection.with_lock_retries(work, attempts=5)
    assert len(tries) == 3
