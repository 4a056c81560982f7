DO $$
DECLARE
    missing text;
BEGIN
    SELECT string_agg(concat_ws(' ', wanted.tab, wanted.name, wanted.type), ', ' ORDER BY wanted.tab, wanted.name)
    INTO missing
    FROM (VALUES
        ('audit_retention_policy', 'id', 'integer NOT NULL'),
        ('audit_retention_policy', 'policy_name', 'character varying(100) NOT NULL'),
        ('audit_retention_policy', 'retention_days', 'integer NOT NULL'),
        ('audit_retention_policy', 'archive_after_days', 'integer'),
        ('audit_retention_policy', 'delete_after_days', 'integer'),
        ('audit_retention_policy', 'data_classification', 'character varying(20) NOT NULL'),
        ('audit_retention_policy', 'description', 'text'),
        ('audit_retention_policy', 'is_active', 'character varying(10)'),
        ('audit_retention_policy', 'created_at', 'timestamp with time zone NOT NULL'),
        ('audit_retention_policy', 'updated_at', 'timestamp with time zone NOT NULL'),
        ('audit_retention_policy', 'created_by', 'character varying(255)')
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
        ('audit_retention_policy', 'audit_retention_policy_pkey'),
        ('audit_retention_policy', 'audit_retention_policy_policy_name_key'),
        ('audit_retention_policy', 'audit_retention_policy_retention_days_check'),
        ('audit_retention_policy', 'audit_retention_policy_archive_after_days_check'),
        ('audit_retention_policy', 'audit_retention_policy_delete_after_days_check'),
        ('audit_retention_policy', 'audit_retention_policy_data_classification_check'),
        ('audit_retention_policy', 'audit_retention_policy_is_active_check')
    ) AS wanted (tab, name)
    WHERE NOT EXISTS (
        SELECT FROM pg_catalog.pg_constraint AS c
        WHERE c.conrelid = to_regclass('audit.' || wanted.tab) AND c.conname = wanted.name AND c.convalidated
    );
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'missing in schema audit: constraints: %', missing;
    END IF;
END
$$;
