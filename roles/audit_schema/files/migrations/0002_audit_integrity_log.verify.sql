DO $$
DECLARE
    missing text;
BEGIN
    SELECT string_agg(concat_ws(' ', wanted.tab, wanted.name, wanted.type), ', ' ORDER BY wanted.tab, wanted.name)
    INTO missing
    FROM (VALUES
        ('audit_integrity_log', 'id', 'bigint NOT NULL'),
        ('audit_integrity_log', 'audit_log_id', 'bigint NOT NULL'),
        ('audit_integrity_log', 'audit_log_timestamp', 'timestamp with time zone NOT NULL'),
        ('audit_integrity_log', 'verification_timestamp', 'timestamp with time zone NOT NULL'),
        ('audit_integrity_log', 'verification_status', 'character varying(20) NOT NULL'),
        ('audit_integrity_log', 'verification_details', 'jsonb'),
        ('audit_integrity_log', 'verified_by', 'character varying(255)'),
        ('audit_integrity_log', 'hash_verified', 'character varying(64)'),
        ('audit_integrity_log', 'expected_hash', 'character varying(64)')
    ) AS wanted (tab, name, type)
    WHERE NOT EXISTS (
        SELECT FROM pg_catalog.pg_attribute AS a
        WHERE a.attrelid = to_regclass('audit.' || wanted.tab) AND a.attname = wanted.name AND NOT a.attisdropped
            AND format_type(a.atttypid, a.atttypmod)
                || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END = wanted.type
    );
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'missing in schema audit: columns: %', missing;
    END IF;

    SELECT string_agg(concat_ws(' ', wanted.tab, wanted.name), ', ' ORDER BY wanted.tab, wanted.name)
    INTO missing
    FROM (VALUES
        ('audit_integrity_log', 'audit_integrity_log_pkey'),
        ('audit_integrity_log', 'audit_integrity_log_audit_log_fkey'),
        ('audit_integrity_log', 'audit_integrity_log_verification_status_check')
    ) AS wanted (tab, name)
    WHERE NOT EXISTS (
        SELECT FROM pg_catalog.pg_constraint AS c
        WHERE c.conrelid = to_regclass('audit.' || wanted.tab) AND c.conname = wanted.name AND c.convalidated
    );
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'missing in schema audit: constraints: %', missing;
    END IF;

    SELECT string_agg(concat_ws(' ', wanted.tab, wanted.name), ', ' ORDER BY wanted.tab, wanted.name)
    INTO missing
    FROM (VALUES
        ('audit_integrity_log', 'audit_integrity_log_audit_log_idx'),
        ('audit_integrity_log', 'audit_integrity_log_verification_timestamp_idx'),
        ('audit_integrity_log', 'audit_integrity_log_not_success_idx')
    ) AS wanted (tab, name)
    WHERE NOT EXISTS (
        SELECT FROM pg_catalog.pg_index AS i
        WHERE i.indrelid = to_regclass('audit.' || wanted.tab)
            AND i.indexrelid = to_regclass('audit.' || wanted.name) AND i.indisvalid
    );
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'missing in schema audit: indexes: %', missing;
    END IF;

    IF pg_get_partkeydef(to_regclass('audit.audit_integrity_log')) IS DISTINCT FROM 'RANGE (audit_log_timestamp)' THEN
        RAISE EXCEPTION 'audit.audit_integrity_log is not partitioned by RANGE (audit_log_timestamp)';
    END IF;
END
$$;
