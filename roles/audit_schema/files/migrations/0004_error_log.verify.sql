DO $$
DECLARE
    missing text;
BEGIN
    SELECT string_agg(concat_ws(' ', wanted.tab, wanted.name, wanted.type), ', ' ORDER BY wanted.tab, wanted.name)
    INTO missing
    FROM (VALUES
        ('error_log', 'id', 'character varying(36) NOT NULL'),
        ('error_log', 'category', 'character varying(50) NOT NULL'),
        ('error_log', 'severity', 'character varying(20) NOT NULL'),
        ('error_log', 'code', 'character varying(20) NOT NULL'),
        ('error_log', 'message', 'text NOT NULL'),
        ('error_log', 'component', 'character varying(100) NOT NULL'),
        ('error_log', 'operation', 'character varying(100) NOT NULL'),
        ('error_log', 'correlation_id', 'character varying(255) NOT NULL'),
        ('error_log', 'user_id', 'character varying(255)'),
        ('error_log', 'session_id', 'character varying(255)'),
        ('error_log', 'request_id', 'character varying(255)'),
        ('error_log', 'retryable', 'character varying(10) NOT NULL'),
        ('error_log', 'aggregation_key', 'character varying(255) NOT NULL'),
        ('error_log', 'context', 'jsonb'),
        ('error_log', 'troubleshooting', 'jsonb'),
        ('error_log', 'timestamp', 'timestamp with time zone NOT NULL'),
        ('error_log', 'created_at', 'timestamp with time zone NOT NULL')
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
        ('error_log', 'error_log_pkey'),
        ('error_log', 'error_log_retryable_check')
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
        ('error_log', 'error_log_timestamp_idx'),
        ('error_log', 'error_log_component_timestamp_idx'),
        ('error_log', 'error_log_category_severity_idx'),
        ('error_log', 'error_log_correlation_id_idx'),
        ('error_log', 'error_log_aggregation_key_idx'),
        ('error_log', 'error_log_user_id_idx'),
        ('error_log', 'error_log_created_at_idx')
    ) AS wanted (tab, name)
    WHERE NOT EXISTS (
        SELECT FROM pg_catalog.pg_index AS i
        WHERE i.indrelid = to_regclass('audit.' || wanted.tab)
            AND i.indexrelid = to_regclass('audit.' || wanted.name) AND i.indisvalid
    );
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'missing in schema audit: indexes: %', missing;
    END IF;

    IF pg_get_partkeydef(to_regclass('audit.error_log')) IS DISTINCT FROM 'RANGE ("timestamp")' THEN
        RAISE EXCEPTION 'audit.error_log is not partitioned by RANGE ("timestamp")';
    END IF;
END
$$;
