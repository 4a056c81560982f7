"""postgresql_partition_convert says at once all that it cannot carry over, each with a remedy, and changes nothing."""

from __future__ import annotations

import pytest

from .conversions import TABLE, convert, portrait, refuse, revert
from .partitions import bounds

pytestmark = pytest.mark.newest


@pytest.fixture
def log(database):
    database.query(TABLE)
    return database


OBSTACLES = [
    (
        "CREATE TABLE other (n bigint REFERENCES audit_log)",
        "foreign key other_n_fkey of public.other",
        "DROP CONSTRAINT",
    ),
    ("CREATE MATERIALIZED VIEW m AS SELECT * FROM audit_log", "materialized view public.m", "anew afterwards"),
    (
        "CREATE FUNCTION f() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM audit_log; END",
        "function public.f()",
        "anew",
    ),
    (
        "CREATE FUNCTION f() RETURNS SETOF audit_log LANGUAGE sql AS 'SELECT * FROM audit_log'",
        "function public.f()",
        "anew",
    ),
    ("CREATE VIEW v AS SELECT l, l.id FROM audit_log l", "column l of view public.v", "anew"),
    ("CREATE VIEW v AS SELECT id, at FROM audit_log GROUP BY id", "view public.v needs the primary key", "GROUP BY"),
    ("CREATE TABLE other (old audit_log)", "column old of table public.other", "anew"),
    ("CREATE TABLE other (old audit_log[])", "column old of table public.other", "anew"),
    ("CREATE RULE r AS ON DELETE TO audit_log DO INSTEAD NOTHING", "rule r", "DROP RULE"),
    (
        "CREATE VIEW v AS SELECT 1 AS a;"
        "CREATE RULE w AS ON INSERT TO v DO INSTEAD INSERT INTO audit_log (at) VALUES (now())",
        "rule w on view public.v",
        "anew",
    ),
    (
        "CREATE TABLE other (n int); CREATE POLICY p ON other USING (n IN (SELECT id FROM audit_log))",
        "policy p on table public.other",
        "anew",
    ),
    ("CREATE TABLE child () INHERITS (audit_log)", "others inherit from it", "NO INHERIT"),
    ("CREATE UNIQUE INDEX u ON audit_log (action)", "unique index u is without at", "unique with at"),
    ("ALTER TABLE audit_log ADD CONSTRAINT u UNIQUE (action)", "unique index u is without at", "unique with at"),
    (
        "ALTER TABLE audit_log ADD CONSTRAINT u UNIQUE (id, at) DEFERRABLE",
        "constraint u is deferrable",
        "not deferrable",
    ),
    (
        "ALTER TABLE audit_log ADD CONSTRAINT e EXCLUDE USING btree (action WITH =)",
        "exclusion constraint e",
        "DROP CONSTRAINT",
    ),
    ("ALTER TABLE audit_log ADD CONSTRAINT c CHECK (id > 0) NOT VALID", "constraint c is not valid", "VALIDATE"),
    ("ALTER TABLE audit_log ADD CONSTRAINT c CHECK (id > 0) NO INHERIT", "check c is NO INHERIT", "without NO INHERIT"),
    ("ALTER TABLE audit_log ADD CONSTRAINT legacy_range CHECK (id > 0)", "constraint is named legacy_range", "rename"),
    ("ALTER TABLE audit_log REPLICA IDENTITY USING INDEX audit_log_pkey", "identity is an index", "DEFAULT, or FULL"),
    ("CREATE PUBLICATION p_DATABASE FOR TABLE audit_log", "publication p_", "publish_via_partition_root"),
    ("CREATE PUBLICATION p_DATABASE FOR ALL TABLES", "publication p_", "publish_via_partition_root"),
    ("CREATE PUBLICATION p_DATABASE FOR TABLES IN SCHEMA public", "publication p_", "publish_via_partition_root"),
    ("ALTER EXTENSION plpgsql ADD TABLE audit_log", "belongs to extension plpgsql", "DROP TABLE public.audit_log"),
    (
        "CREATE SUBSCRIPTION s_DATABASE CONNECTION 'dbname=nowhere' PUBLICATION p WITH (connect = false);"
        "INSERT INTO pg_subscription_rel SELECT oid, 'audit_log'::regclass, 'r', '0/0' FROM pg_subscription s "
        "WHERE s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())",
        "its rows come from a subscription",
        "copy_data = false",
    ),
    ("ALTER TABLE audit_log SET UNLOGGED", "unlogged", "SET LOGGED"),
    (
        "CREATE FUNCTION t() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER t AFTER INSERT ON audit_log REFERENCING NEW TABLE AS n FOR EACH ROW EXECUTE FUNCTION t()",
        "trigger t is for each row and has transition tables",
        "for each statement",
    ),
    (
        "CREATE TABLE audit_log_legacy (a int)",
        "the name audit_log_legacy is needed, and is that of a plain table",
        "rename",
    ),
    ("CREATE VIEW audit_log_2026_12 AS SELECT 1 AS a", "audit_log_2026_12 is needed, and is that of a view", "rename"),
    ("CREATE TABLE audit_log_legacy_at_idx (a int)", "the name audit_log_legacy_at_idx is needed", "rename"),
    ("CREATE SEQUENCE audit_log_legacy_pkey", "audit_log_legacy_pkey is needed, and is that of a sequence", "rename"),
    ("INSERT INTO audit_log (at) VALUES ('2027-05-05')", "the newest is from 2027-05-05", "raise premake"),
    ("INSERT INTO audit_log (at) VALUES ('infinity')", "rows have infinity as at", "a time that comes"),
    (
        "ALTER TABLE audit_log ALTER at DROP NOT NULL; INSERT INTO audit_log (at) VALUES (NULL)",
        "rows have no at",
        "at IS NULL",
    ),
]


@pytest.mark.parametrize(("text", "said", "remedy"), OBSTACLES)
def test_what_cannot_be_carried_over_is_refused_with_a_remedy(log, text, said, remedy):
    log.query("SET allow_system_table_mods = on")  # a row that a subscription to a real publisher would have
    log.query(text.replace("DATABASE", log.name))
    try:
        before = portrait(log)
        for check in (True, False):
            failed = refuse(log, check)
            assert said in failed["msg"] and remedy in failed["remedy"]
            assert failed["changed"] is False and failed["executed_queries"] == []
        assert portrait(log) == before
    finally:
        if "SUBSCRIPTION" in text:  # a database with a subscription cannot be dropped
            log.query(f"ALTER SUBSCRIPTION s_{log.name} SET (slot_name = NONE)")
            log.query(f"DROP SUBSCRIPTION s_{log.name}")


def test_everything_is_said_at_once(log):
    log.query("CREATE TABLE other (n bigint REFERENCES audit_log); CREATE MATERIALIZED VIEW m AS TABLE audit_log;")
    log.query("CREATE UNIQUE INDEX u ON audit_log (action); CREATE TABLE audit_log_legacy (a int)")
    log.query("INSERT INTO audit_log (at) VALUES ('2028-01-01')")
    failed = refuse(log, key="at")
    assert len(failed["obstacles"]) == 5
    for word in ("other_n_fkey", "view public.m", "index u", "2028-01-01", "audit_log_legacy"):
        assert word in failed["msg"]
    assert all(each["remedy"] for each in failed["obstacles"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"table": "nowhere"}, "'nowhere' does not exist"),
        ({"key": "nowhere"}, "it has no column nowhere"),
        ({"key": "action"}, "key action is of type text"),
        ({"now": "soon"}, "now: 'soon'"),
        ({"room": "much"}, "room: 'much'"),
        ({"premake": -1}, "premake: -1"),
        ({"premake": 10**6}, "more than 5000 partitions"),
        ({"lock_timeout": "soon"}, "lock_timeout: 'soon'"),
        ({"lock_attempts": 0}, "lock_attempts: 0"),
        ({"batch_rows": -1}, "batch_rows: -1"),
        ({"interval": "decade"}, "decade"),
    ],
)
def test_bad_options_are_named(log, options, said):
    before = portrait(log)
    assert said in refuse(log, **options)["msg"]
    assert portrait(log) == before


def test_other_relations_are_refused(log):
    log.query("CREATE VIEW v AS SELECT * FROM audit_log")
    assert "it is a view" in refuse(log, table="v")["msg"]
    convert(log)
    assert "it is a partition itself" in refuse(log, table="audit_log_legacy")["msg"]
    assert "partitioned by at already" in refuse(log, key="id")["msg"]


def test_a_swap_that_fails_leaves_everything_as_it_was(log):
    log.query("CREATE VIEW v AS SELECT id FROM audit_log")
    log.query("CREATE FUNCTION no() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''not now''; END'")
    log.query("CREATE EVENT TRIGGER no ON ddl_command_end WHEN TAG IN ('CREATE VIEW') EXECUTE FUNCTION no()")
    failed = refuse(log)
    assert "not now" in failed["msg"] and "RENAME" not in "".join(failed["executed_queries"])
    assert log.value("SELECT count(*) FROM v") == 1000 and bounds(log, "audit_log") == {}
    log.query("DROP EVENT TRIGGER no")
    assert [each["step"] for each in convert(log)["steps"]] == ["swap", "create partitions", "analyze"]
    assert log.value("SELECT count(*) FROM v") == 1000


def test_rows_in_the_future_that_get_partitions_anyway_move_the_boundary(log):
    log.query("INSERT INTO audit_log (at) VALUES ('2027-01-15')")
    made = convert(log)
    assert made["boundary"] == "2027-02-01T00:00:00+00:00"
    assert list(bounds(log, "audit_log")) == ["audit_log_legacy"]
    later = convert(log, now="2027-01-02T00:00:00Z")
    assert [each["name"] for each in later["created"]] == ["audit_log_2027_02", "audit_log_2027_03"]


def test_the_way_back_is_refused_while_too_many_rows_are_elsewhere(log):
    convert(log)
    log.query("INSERT INTO audit_log (at) SELECT '2026-12-24' FROM generate_series(1, 11)")
    before = portrait(log)
    failed = refuse(log, state="reverted", batch_rows=10)
    assert "more than 10 rows are in other partitions" in failed["msg"] and "batch_rows" in failed["remedy"]
    assert portrait(log) == before
    revert(log, batch_rows=11)
    assert log.value("SELECT count(*) FROM audit_log") == 1011


def test_what_this_module_did_not_convert_does_not_go_back(log):
    log.query("CREATE TABLE parted (at timestamptz NOT NULL) PARTITION BY RANGE (at)")
    assert "has no partition parted_legacy" in refuse(log, table="parted", state="reverted")["msg"]
    convert(log)
    log.query("ALTER TABLE audit_log DETACH PARTITION audit_log_legacy")
    assert "has no partition audit_log_legacy" in refuse(log, state="reverted")["msg"]
