DO $$
DECLARE
    missing text;
BEGIN
    SELECT string_agg(concat_ws(' ', wanted.name, wanted.type), ', ' ORDER BY wanted.name)
    INTO missing
    FROM (VALUES
        ('id', 'bigint NOT NULL'),
        ('table_name', 'text NOT NULL'),
        ('partition_schema', 'text NOT NULL'),
        ('partition_name', 'text NOT NULL'),
        ('part_of', 'text'),
        ('time_from', 'timestamp with time zone NOT NULL'),
        ('time_to', 'timestamp with time zone NOT NULL'),
        ('action', 'character varying(20) NOT NULL'),
        ('left_at', 'timestamp with time zone NOT NULL'),
        ('left_by', 'character varying(255) NOT NULL'),
        ('row_count', 'bigint'),
        ('sha256', 'character varying(64)'),
        ('archive_name', 'text'),
        ('archive_directory', 'text'),
        ('manifest_sha256', 'character varying(64)'),
        ('archived_at', 'timestamp with time zone'),
        ('dropped_at', 'timestamp with time zone')
    ) AS wanted (name, type)
    WHERE NOT EXISTS (
        SELECT FROM pg_catalog.pg_attribute AS a
        WHERE a.attrelid = to_regclass('audit.partition_history') AND a.attname = wanted.name AND NOT a.attisdropped
            AND format_type(a.atttypid, a.atttypmod)
                || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END = wanted.type
    );
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'missing in audit.partition_history: columns: %', missing;
    END IF;

    SELECT string_agg(wanted.name, ', ' ORDER BY wanted.name)
    INTO missing
    FROM (VALUES
        ('partition_history_pkey'),
        ('partition_history_action_check'),
        ('partition_history_time_check'),
        ('partition_history_archived_check'),
        ('partition_history_dropped_check')
    ) AS wanted (name)
    WHERE NOT EXISTS (
        SELECT FROM pg_catalog.pg_constraint AS c
        WHERE c.conrelid = to_regclass('audit.partition_history') AND c.conname = wanted.name AND c.convalidated
    );
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'missing in audit.partition_history: constraints: %', missing;
    END IF;

    SELECT string_agg(wanted.name, ', ' ORDER BY wanted.name)
    INTO missing
    FROM (VALUES ('partition_history_row_guard', 27), ('partition_history_truncate_guard', 34)) AS wanted (name, kind)
    WHERE NOT EXISTS (
        SELECT FROM pg_catalog.pg_trigger AS t
        WHERE t.tgrelid = to_regclass('audit.partition_history') AND t.tgname = wanted.name AND t.tgtype = wanted.kind
            AND t.tgfoid = to_regproc('audit.partition_history_guard') AND t.tgenabled = 'O'
    );
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'missing in audit.partition_history: triggers: %', missing;
    END IF;
END
$$;
