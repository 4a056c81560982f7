"""What the tests of postgresql_partition_convert share: tables, and a portrait of all that hangs on one."""

from __future__ import annotations

from .partitions import NOW

TABLE = """
CREATE TABLE audit_log (id bigserial PRIMARY KEY, at timestamptz NOT NULL, action text NOT NULL DEFAULT 'read');
CREATE INDEX audit_log_at_idx ON audit_log (at);
INSERT INTO audit_log (at, action)
SELECT '2026-11-23 04:00+00'::timestamptz - make_interval(hours => n * 7), 'a' || n FROM generate_series(0, 999) AS n
"""

# Everything that is carried over. OWNER, READER and WRITER are roles.
FURNISHED = """
CREATE TABLE kind (name text PRIMARY KEY);
INSERT INTO kind VALUES ('read'), ('write');
CREATE TABLE seen (n int);
CREATE TABLE audit_log (
    gone int,
    id bigint GENERATED ALWAYS AS IDENTITY (SEQUENCE NAME audit_log_numbers START WITH 100 INCREMENT BY 5 CACHE 3),
    "at" timestamptz,
    action text NOT NULL DEFAULT 'read' CHECK (action <> ''),
    kind text REFERENCES kind,
    batch bigserial,
    doubled bigint GENERATED ALWAYS AS (batch * 2) STORED,
    body text COLLATE "C",
    CONSTRAINT audit_log_primary PRIMARY KEY (id) INCLUDE (action),
    CONSTRAINT audit_log_batch UNIQUE (batch, "at")
);
ALTER TABLE audit_log DROP gone;
ALTER TABLE audit_log OWNER TO "OWNER";
ALTER TABLE audit_log ALTER body SET STORAGE EXTERNAL, ALTER kind SET STATISTICS 50, SET (fillfactor = 80);
CREATE UNIQUE INDEX unusual ON audit_log ("at" DESC, lower(action), id) WHERE action <> 'x';
CREATE INDEX audit_log_body ON audit_log USING hash (body);
CREATE STATISTICS audit_log_related (dependencies) ON action, kind FROM audit_log;
ALTER STATISTICS audit_log_related SET STATISTICS 70;
COMMENT ON TABLE audit_log IS 'what happened, it''s all here';
COMMENT ON COLUMN audit_log.body IS 'as it came';
COMMENT ON INDEX unusual IS 'an index';
COMMENT ON CONSTRAINT audit_log_primary ON audit_log IS 'a key';
COMMENT ON CONSTRAINT audit_log_kind_fkey ON audit_log IS 'a foreign key';
GRANT SELECT ON audit_log TO "READER", PUBLIC;
GRANT INSERT, SELECT (id, action), UPDATE (body) ON audit_log TO "WRITER" WITH GRANT OPTION;
GRANT SELECT ON audit_log_numbers TO "READER";
COMMENT ON SEQUENCE audit_log_numbers IS 'numbers';
REVOKE DELETE, TRUNCATE ON audit_log FROM "OWNER";
CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO public.seen VALUES (1); RETURN NEW; END $$;
CREATE TRIGGER each_row AFTER INSERT ON audit_log FOR EACH ROW WHEN (NEW.action = 'watched') EXECUTE FUNCTION watch();
CREATE CONSTRAINT TRIGGER later AFTER UPDATE ON audit_log DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    EXECUTE FUNCTION watch();
CREATE TRIGGER each_statement AFTER DELETE ON audit_log EXECUTE FUNCTION watch();
COMMENT ON TRIGGER each_statement ON audit_log IS 'a trigger';
ALTER TABLE audit_log ENABLE ALWAYS TRIGGER each_row, DISABLE TRIGGER each_statement;
ALTER TABLE audit_log ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY writes ON audit_log FOR INSERT TO "WRITER" WITH CHECK (action <> 'forbidden');
CREATE POLICY reads ON audit_log TO "READER", PUBLIC USING (kind IN (SELECT name FROM kind));
CREATE POLICY narrow ON audit_log AS RESTRICTIVE FOR SELECT USING (batch > 0);
COMMENT ON POLICY narrow ON audit_log IS 'a policy';
CREATE VIEW readings WITH (security_barrier = true, check_option = local) AS
    SELECT id, "at", action FROM audit_log WHERE kind = 'read';
GRANT SELECT ON readings TO "READER";
CREATE VIEW counted AS SELECT l.action, count(*) AS n FROM audit_log l JOIN kind ON kind.name = l.kind GROUP BY 1;
CREATE VIEW on_a_view AS SELECT n FROM counted;
CREATE PUBLICATION published_DATABASE FOR TABLE audit_log (id, "at", action) WHERE (action <> 'secret')
    WITH (publish_via_partition_root = true, publish = 'insert');
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON SEQUENCES TO PUBLIC;
INSERT INTO audit_log ("at", action, kind, body)
SELECT '2026-11-23 04:00+00'::timestamptz - make_interval(hours => n), 'a' || n % 7, 'read', n
FROM generate_series(0, 1999) AS n;
"""

PORTRAIT = {
    "columns": """SELECT column_name, data_type, is_nullable, column_default, is_identity, identity_generation,
        identity_start, identity_increment, identity_maximum, identity_minimum, identity_cycle, generation_expression,
        collation_name FROM information_schema.columns WHERE table_name = 'audit_log' ORDER BY 1""",
    "storage": """SELECT attname, attstorage, attstattarget, col_description(attrelid, attnum)
        FROM pg_attribute WHERE attrelid = 'audit_log'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY 1""",
    "indexes": """SELECT i.relname, replace(pg_get_indexdef(i.oid), 'ON ONLY', 'ON'), indisvalid,
        obj_description(i.oid, 'pg_class')
        FROM pg_index x JOIN pg_class i ON i.oid = indexrelid WHERE indrelid = 'audit_log'::regclass ORDER BY 1""",
    "constraints": """SELECT conname, contype, convalidated, pg_get_constraintdef(oid), obj_description(oid)
        FROM pg_constraint WHERE conrelid = 'audit_log'::regclass ORDER BY 1""",
    "grants": """SELECT grantor, grantee, privilege_type, is_grantable FROM information_schema.table_privileges
        WHERE table_name = 'audit_log' ORDER BY 1, 2, 3""",
    "column grants": """SELECT grantor, grantee, column_name, privilege_type, is_grantable
        FROM information_schema.column_privileges WHERE table_name = 'audit_log' ORDER BY 1, 2, 3, 4""",
    "policies": """SELECT policyname, permissive, roles, cmd, qual, with_check FROM pg_policies
        WHERE tablename = 'audit_log' ORDER BY 1""",
    "policy comments": """SELECT polname, obj_description(oid, 'pg_policy') FROM pg_policy
        WHERE polrelid = 'audit_log'::regclass ORDER BY 1""",
    "table": """SELECT pg_get_userbyid(relowner), relrowsecurity, relforcerowsecurity, relreplident, relhastriggers,
        obj_description(oid, 'pg_class') FROM pg_class WHERE oid = 'audit_log'::regclass""",
    "triggers": """SELECT tgname, pg_get_triggerdef(oid), tgenabled, obj_description(oid, 'pg_trigger') FROM pg_trigger
        WHERE tgrelid = 'audit_log'::regclass AND NOT tgisinternal ORDER BY 1""",
    "views": "SELECT viewname, viewowner, definition FROM pg_views WHERE schemaname = 'public' ORDER BY 1",
    "view options": "SELECT relname, reloptions, relacl::text FROM pg_class WHERE relkind = 'v' "
    "AND relnamespace = 'public'::regnamespace ORDER BY 1",
    "statistics": """SELECT stxname, replace(pg_get_statisticsobjdef(oid), 'ON ONLY', 'ON'), stxstattarget
        FROM pg_statistic_ext WHERE stxrelid = 'audit_log'::regclass ORDER BY 1""",
    "publications": "SELECT pubname, tablename, attnames::text, rowfilter FROM pg_publication_tables ORDER BY 1, 2",
    "sequences": """SELECT c.relname, pg_get_userbyid(relowner), relacl::text, obj_description(c.oid, 'pg_class'),
        start_value, increment_by, cache_size, s.last_value
        FROM pg_class c JOIN pg_sequences s ON s.sequencename = c.relname
        WHERE relkind = 'S' ORDER BY 1""",
    "names": """SELECT relname, translate(relkind, 'pI', 'ri') FROM pg_class WHERE relnamespace = 'public'::regnamespace
        AND NOT relispartition ORDER BY 1""",
}


def portrait(database, *without):
    """Return all that can be seen of the table; what it is called by, and never by object numbers."""
    return {name: database.query(query) for name, query in PORTRAIT.items() if name not in without}


def options(**changed):
    return {"table": "audit_log", "key": "at", "premake": 2, "now": NOW, **changed}


def convert(database, check=False, **changed):
    return database.module("postgresql_partition_convert", check, **options(**changed))


def revert(database, check=False, **changed):
    return convert(database, check, state="reverted", **changed)


def refuse(database, check=False, **changed):
    return database.failure("postgresql_partition_convert", check, **options(**changed))
