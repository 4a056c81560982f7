DO $$
DECLARE
    missing text;
BEGIN
    SELECT string_agg(concat_ws(' ', wanted.tab, wanted.name, wanted.type), ', ' ORDER BY wanted.tab, wanted.name)
    INTO missing
    FROM (VALUES
        ('scheduled_reports', 'id', 'character varying(255) NOT NULL'),
        ('scheduled_reports', 'name', 'character varying(255) NOT NULL'),
        ('scheduled_reports', 'description', 'text'),
        ('scheduled_reports', 'organization_id', 'character varying(255) NOT NULL'),
        ('scheduled_reports', 'template_id', 'character varying(255)'),
        ('scheduled_reports', 'report_type', 'character varying(50) NOT NULL'),
        ('scheduled_reports', 'criteria', 'jsonb NOT NULL'),
        ('scheduled_reports', 'format', 'character varying(50) NOT NULL'),
        ('scheduled_reports', 'schedule', 'jsonb NOT NULL'),
        ('scheduled_reports', 'delivery', 'jsonb NOT NULL'),
        ('scheduled_reports', 'export', 'jsonb NOT NULL'),
        ('scheduled_reports', 'enabled', 'character varying(10) NOT NULL'),
        ('scheduled_reports', 'last_run', 'timestamp with time zone'),
        ('scheduled_reports', 'next_run', 'timestamp with time zone'),
        ('scheduled_reports', 'created_at', 'timestamp with time zone NOT NULL'),
        ('scheduled_reports', 'created_by', 'character varying(255) NOT NULL'),
        ('scheduled_reports', 'updated_at', 'timestamp with time zone NOT NULL'),
        ('scheduled_reports', 'updated_by', 'character varying(255)'),
        ('report_executions', 'id', 'character varying(255) NOT NULL'),
        ('report_executions', 'report_config_id', 'character varying(255) NOT NULL'),
        ('report_executions', 'organization_id', 'character varying(255) NOT NULL'),
        ('report_executions', 'scheduled_time', 'timestamp with time zone NOT NULL'),
        ('report_executions', 'execution_time', 'timestamp with time zone NOT NULL'),
        ('report_executions', 'status', 'character varying(20) NOT NULL'),
        ('report_executions', 'duration', 'integer'),
        ('report_executions', 'records_processed', 'integer'),
        ('report_executions', 'export_result', 'jsonb'),
        ('report_executions', 'integrity_report', 'jsonb'),
        ('report_executions', 'delivery_attempts', 'jsonb NOT NULL'),
        ('report_executions', 'error', 'text'),
        ('report_executions', 'created_at', 'timestamp with time zone NOT NULL')
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
        ('scheduled_reports', 'scheduled_reports_pkey'),
        ('scheduled_reports', 'scheduled_reports_enabled_check'),
        ('report_executions', 'report_executions_pkey'),
        ('report_executions', 'report_executions_report_config_fkey'),
        ('report_executions', 'report_executions_duration_check'),
        ('report_executions', 'report_executions_records_processed_check')
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
        ('scheduled_reports', 'scheduled_reports_due_idx'),
        ('scheduled_reports', 'scheduled_reports_organization_enabled_idx'),
        ('report_executions', 'report_executions_report_config_execution_time_idx'),
        ('report_executions', 'report_executions_organization_execution_time_idx')
    ) AS wanted (tab, name)
    WHERE NOT EXISTS (
        SELECT FROM pg_catalog.pg_index AS i
        WHERE i.indrelid = to_regclass('audit.' || wanted.tab)
            AND i.indexrelid = to_regclass('audit.' || wanted.name) AND i.indisvalid
    );
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'missing in schema audit: indexes: %', missing;
    END IF;
END
$$;
