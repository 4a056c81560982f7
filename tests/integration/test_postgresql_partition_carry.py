"""What PostgreSQL does not pass on to partitions is carried there by postgresql_partition, and kept there."""

from __future__ import annotations

import pytest

from .partitions import declare

TABLE = """
CREATE TABLE log (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL, a text, PRIMARY KEY (id, at))
PARTITION BY RANGE (at);
CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.a := upper(NEW.a); RETURN NEW; END $$;
CREATE TRIGGER shouting BEFORE INSERT ON log FOR EACH ROW EXECUTE FUNCTION shout();
"""
PART = "log_2026_12"
ON = "'log_2026_12'::regclass"
# What somebody does to the table, and what is then to be found at each partition.
OF_THE_TABLE = {
    "row_security": (
        "ALTER TABLE log ENABLE ROW LEVEL SECURITY; ALTER TABLE log FORCE ROW LEVEL SECURITY",
        f"SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE oid = {ON}",
    ),
    "policies": (
        "CREATE POLICY mine ON log AS RESTRICTIVE FOR UPDATE USING (a <> '{}%%s') WITH CHECK (id > 0);"
        "CREATE POLICY every ON log TO pg_monitor, postgres USING (true)",
        "SELECT (SELECT array_agg((polname, polcmd, polpermissive, polroles, pg_get_expr(polqual, polrelid), "
        "pg_get_expr(polwithcheck, polrelid))::text ORDER BY polname) FROM pg_policy WHERE polrelid = 'log'::regclass) "
        "= "
        "(SELECT array_agg((polname, polcmd, polpermissive, polroles, pg_get_expr(polqual, polrelid), "
        f"pg_get_expr(polwithcheck, polrelid))::text ORDER BY polname) FROM pg_policy WHERE polrelid = {ON})",
    ),
    "replica_identity": (
        "ALTER TABLE log REPLICA IDENTITY FULL",
        f"SELECT relreplident = 'f' FROM pg_class WHERE oid = {ON}",
    ),
    "replica_index": (
        "ALTER TABLE log REPLICA IDENTITY USING INDEX log_pkey",
        f"SELECT indisreplident FROM pg_index WHERE indrelid = {ON}",
    ),
    "statistics": (
        "ALTER TABLE ONLY log ALTER a SET STATISTICS 500",
        f"SELECT attstattarget = 500 FROM pg_attribute WHERE attrelid = {ON} AND attname = 'a'",
    ),
    "n_distinct": (
        "ALTER TABLE log ALTER a SET (n_distinct = 7, n_distinct_inherited = -0.5)",
        f"SELECT '{{n_distinct=7,n_distinct_inherited=-0.5}}' <@ attoptions FROM pg_attribute "
        f"WHERE attrelid = {ON} AND attname = 'a'",
    ),
    "storage": (
        "ALTER TABLE ONLY log ALTER a SET STORAGE EXTERNAL",
        f"SELECT attstorage = 'e' FROM pg_attribute WHERE attrelid = {ON} AND attname = 'a'",
    ),
    "compression": (
        "ALTER TABLE ONLY log ALTER a SET COMPRESSION pglz",
        f"SELECT attcompression = 'p' FROM pg_attribute WHERE attrelid = {ON} AND attname = 'a'",
    ),
    "comment": (
        "COMMENT ON COLUMN log.a IS '100%% {} ''quoted'''",
        f"SELECT col_description({ON}, 3) = '100%% {{}} ''quoted'''",
    ),
}  # fmt: skip
# What somebody does to one partition, and what must be found there again.
OF_A_PARTITION = {
    "access": (
        f"GRANT SELECT ON {PART} TO PUBLIC; GRANT UPDATE (a) ON {PART} TO pg_monitor; "
        f"GRANT ALL ON {PART} TO pg_monitor",
        f"SELECT count(*) = 0 FROM pg_class, aclexplode(relacl) x WHERE oid = {ON} AND grantee <> relowner",
    ),
    "columns of access": (
        f"GRANT UPDATE (a) ON {PART} TO pg_monitor",
        f"SELECT count(attacl) = 0 FROM pg_attribute WHERE attrelid = {ON}",
    ),
    "owner": (
        f"ALTER TABLE {PART} OWNER TO pg_monitor",
        f"SELECT relowner::regrole::text = 'postgres' FROM pg_class WHERE oid = {ON}",
    ),
    "row_security": (
        f"ALTER TABLE {PART} ENABLE ROW LEVEL SECURITY",
        f"SELECT NOT relrowsecurity FROM pg_class WHERE oid = {ON}",
    ),
    "policies": (
        f"CREATE POLICY odd ON {PART} USING (true)",
        f"SELECT count(*) = 0 FROM pg_policy WHERE polrelid = {ON}",
    ),
    "trigger": (
        f"ALTER TABLE {PART} DISABLE TRIGGER shouting",
        f"SELECT tgenabled = 'O' FROM pg_trigger WHERE tgrelid = {ON} AND tgname = 'shouting'",
    ),
    "n_distinct": (
        f"ALTER TABLE {PART} ALTER a SET (n_distinct = 9)",
        f"SELECT coalesce(array_to_string(attoptions, ','), '') !~ 'n_distinct' FROM pg_attribute "
        f"WHERE attrelid = {ON} AND attname = 'a'",
    ),
    "comment": (
        f"COMMENT ON COLUMN {PART}.a IS 'odd'",
        f"SELECT col_description({ON}, 3) IS NULL",
    ),
}  # fmt: skip


@pytest.fixture
def log(database):
    database.query(TABLE)
    declare(database)
    return database


def holds(log, query):
    return log.value(query.replace("%%", "%"))


def check_then_repair_then_again(log, query):
    assert not holds(log, query)
    would = declare(log, check=True)
    assert would["changed"] and not holds(log, query)
    assert PART in [each["partition"] for each in would["carried"]] and PART in would["diff"]["after"]
    done = declare(log)
    assert done["changed"] and done["queries"] == would["queries"] and holds(log, query)
    again = declare(log)
    assert not again["changed"] and again["carried"] == [] and again["executed_queries"] == []
    assert not declare(log, check=True)["changed"]


@pytest.mark.parametrize("name", OF_THE_TABLE)
def test_what_the_table_has_its_partitions_get(log, name):
    statement, query = OF_THE_TABLE[name]
    log.query(statement.replace("%%", "%"))
    check_then_repair_then_again(log, query)


@pytest.mark.parametrize("name", OF_THE_TABLE)
@pytest.mark.parametrize("beside", [False, True], ids=["first", "beside others"])
def test_new_partitions_have_it_from_the_start(database, name, beside):
    statement, query = OF_THE_TABLE[name]
    database.query(TABLE)
    if beside:
        declare(database, premake=0)
    database.query(statement.replace("%%", "%"))
    if beside:
        declare(database, premake=0)
    made = declare(database, premake=2)
    assert [each["name"] for each in made["created"]][-2:] == [PART, "log_2027_01"]
    assert holds(database, query)
    assert not declare(database, premake=2)["changed"]


@pytest.mark.parametrize("name", OF_A_PARTITION)
def test_what_a_partition_has_of_its_own_goes(log, name):
    statement, query = OF_A_PARTITION[name]
    log.query(statement)
    check_then_repair_then_again(log, query)


def test_what_is_not_to_be_carried_is_left_alone(log):
    log.query(f"GRANT SELECT ON {PART} TO PUBLIC; ALTER TABLE log ENABLE ROW LEVEL SECURITY")
    assert not declare(log, carry=["columns"])["changed"]
    done = declare(log, carry=["access"])
    assert done["carried"] == [{"partition": PART, "what": ["access"]}]
    assert [each["what"] for each in declare(log)["carried"]] == [["row_security"]] * 3


def test_storage_parameters_by_age(log):
    log.query(f"ALTER TABLE {PART} SET (fillfactor = 70)")
    options = {
        "storage_parameters": {"autovacuum_vacuum_scale_factor": 0.05, "toast.autovacuum_enabled": True},
        "closed_storage_parameters": {"autovacuum_vacuum_scale_factor": 0.2, "autovacuum_freeze_min_age": 0},
        "start": "2026-10-01",
    }
    would = declare(log, check=True, **options)
    done = declare(log, **options)
    assert done["queries"] == would["queries"]
    found = dict(
        log.query("SELECT relname, reloptions FROM pg_class WHERE relname ~ '^log_20.*[0-9]$' AND relkind = 'r'")
    )
    assert found["log_2026_11"] == ["autovacuum_vacuum_scale_factor=0.05"]
    assert found[PART] == ["fillfactor=70", "autovacuum_vacuum_scale_factor=0.05"], "what others set stays"
    assert sorted(found["log_2026_10"]) == ["autovacuum_freeze_min_age=0", "autovacuum_vacuum_scale_factor=0.2"]
    assert not declare(log, **options)["changed"]
    later = declare(log, **{**options, "now": "2026-12-01T00:00:00Z", "premake": 1})
    assert [each["partition"] for each in later["carried"]] == ["log_2026_11"], "its month has ended"
    assert not declare(log, **{**options, "now": "2026-12-01T00:00:00Z", "premake": 1})["changed"]


def test_a_default_partition_is_no_exception(log):
    declare(log, default_partition=True)
    log.query("GRANT SELECT ON log_default TO PUBLIC; ALTER TABLE log REPLICA IDENTITY FULL")
    declare(log, default_partition=True)
    assert log.value("SELECT relreplident = 'f' AND relacl::text !~ '=r/' FROM pg_class WHERE relname = 'log_default'")


def test_a_row_that_a_policy_hides_is_hidden_in_a_new_partition_too(log, role_prefix):
    role = f"{role_prefix}reader"
    log.query(
        f"CREATE ROLE {role}; GRANT SELECT ON log TO {role}; ALTER TABLE log ENABLE ROW LEVEL SECURITY; "
        "CREATE POLICY some ON log USING (a = 'SEEN')".replace("POLICY some", "POLICY part")
    )
    try:
        declare(log, premake=4)
        log.query("INSERT INTO log (at, a) VALUES ('2027-03-01Z', 'seen'), ('2027-03-01Z', 'hidden')")
        assert log.query(f"SET ROLE {role}; SELECT a FROM log") == [("SEEN",)]
        log.query("RESET ROLE")
        assert not log.value("SELECT has_table_privilege(%s, 'log_2027_03', 'SELECT')", (role,))
    finally:
        log.query(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_locked_partition_does_not_undo_the_others(log):
    log.query("ALTER TABLE log REPLICA IDENTITY FULL")
    with log.server.connect(log.name) as holder, holder.cursor() as cursor:
        holder.autocommit = False
        cursor.execute(f"LOCK TABLE {PART} IN ACCESS SHARE MODE")
        failed = log.failure(
            "postgresql_partition",
            table="log",
            premake=2,
            now="2026-11-23T04:00:00Z",
            lock_timeout="50ms",
            lock_attempts=1,
        )
        assert failed["sqlstate"] == "55P03" and failed["changed"]
        holder.rollback()
    holder.close()
    assert [each["partition"] for each in declare(log)["carried"]] == [PART, "log_2027_01"]
