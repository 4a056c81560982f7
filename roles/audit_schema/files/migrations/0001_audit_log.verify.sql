DO $$
DECLARE
    missing text;
BEGIN
    SELECT string_agg(concat_ws(' ', wanted.tab, wanted.name, wanted.type), ', ' ORDER BY wanted.tab, wanted.name)
    INTO missing
    FROM (VALUES
        ('audit_log', 'id', 'bigint NOT NULL'),
        ('audit_log', 'timestamp', 'timestamp with time zone NOT NULL'),
        ('audit_log', 'ttl', 'character varying(255)'),
        ('audit_log', 'principal_id', 'character varying(255)'),
        ('audit_log', 'organization_id', 'character varying(255)'),
        ('audit_log', 'action', 'character varying(255) NOT NULL'),
        ('audit_log', 'target_resource_type', 'character varying(255)'),
        ('audit_log', 'target_resource_id', 'character varying(255)'),
        ('audit_log', 'status', 'character varying(50) NOT NULL'),
        ('audit_log', 'outcome_description', 'text'),
        ('audit_log', 'hash', 'character varying(64)'),
        ('audit_log', 'hash_algorithm', 'character varying(50)'),
        ('audit_log', 'event_version', 'character varying(20)'),
        ('audit_log', 'correlation_id', 'character varying(255)'),
        ('audit_log', 'data_classification', 'character varying(20)'),
        ('audit_log', 'retention_policy', 'character varying(50)'),
        ('audit_log', 'processing_latency', 'integer'),
        ('audit_log', 'archived_at', 'timestamp with time zone'),
        ('audit_log', 'details', 'jsonb')
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
        ('audit_log', 'audit_log_pkey'),
        ('audit_log', 'audit_log_status_check'),
        ('audit_log', 'audit_log_data_classification_check'),
        ('audit_log', 'audit_log_processing_latency_check')
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
        ('audit_log', 'audit_log_timestamp_status_idx'),
        ('audit_log', 'audit_log_organization_timestamp_idx'),
        ('audit_log', 'audit_log_principal_action_idx'),
        ('audit_log', 'audit_log_action_idx'),
        ('audit_log', 'audit_log_resource_idx'),
        ('audit_log', 'audit_log_correlation_id_idx'),
        ('audit_log', 'audit_log_classification_retention_idx'),
        ('audit_log', 'audit_log_archived_at_idx'),
        ('audit_log', 'audit_log_hash_idx'),
        ('audit_log', 'audit_log_details_idx')
    ) AS wanted (tab, name)
    WHERE NOT EXISTS (
        SELECT FROM pg_catalog.pg_index AS i
        WHERE i.indrelid = to_regclass('audit.' || wanted.tab)
            AND i.indexrelid = to_regclass('audit.' || wanted.name) AND i.indisvalid
    );
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'missing in schema audit: indexes: %', missing;
    END IF;

    IF pg_get_partkeydef(to_regclass('audit.audit_log')) IS DISTINCT FROM 'RANGE ("timestamp")' THEN
        RAISE EXCEPTION 'audit.audit_log is not partitioned by RANGE ("timestamp")';
    END IF;
END
$$;
