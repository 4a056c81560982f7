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
        ('time_from', 'timestamp with time zone NOT NULL'),
        ('time_to', 'timestamp with time zone NOT NULL'),
        ('sealed_at', 'timestamp with time zone NOT NULL'),
        ('sealed_by', 'character varying(255) NOT NULL'),
        ('row_count', 'bigint NOT NULL'),
        ('sha256', 'character varying(64) NOT NULL'),
        ('seal', 'jsonb NOT NULL'),
        ('previous_id', 'bigint')
    ) AS wanted (name, type)
    WHERE NOT EXISTS (
        SELECT FROM pg_catalog.pg_attribute AS a
        WHERE a.attrelid = to_regclass('audit.partition_seal') AND a.attname = wanted.name AND NOT a.attisdropped
            AND format_type(a.atttypid, a.atttypmod)
                || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END = wanted.type
    );
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'missing in audit.partition_seal: columns: %', missing;
    END IF;

    SELECT string_agg(wanted.name, ', ' ORDER BY wanted.name)
    INTO missing
    FROM (VALUES
        ('partition_seal_pkey'),
        ('partition_seal_previous_id_fkey'),
        ('partition_seal_previous_id_key'),
        ('partition_seal_time_check'),
        ('partition_seal_row_count_check')
    ) AS wanted (name)
    WHERE NOT EXISTS (
        SELECT FROM pg_catalog.pg_constraint AS c
        WHERE c.conrelid = to_regclass('audit.partition_seal') AND c.conname = wanted.name AND c.convalidated
    );
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'missing in audit.partition_seal: constraints: %', missing;
    END IF;

    IF to_regclass('audit.partition_seal_partition_idx') IS NULL THEN
        RAISE EXCEPTION 'missing in schema audit: index partition_seal_partition_idx';
    END IF;

    SELECT string_agg(wanted.name, ', ' ORDER BY wanted.name)
    INTO missing
    FROM (VALUES ('partition_seal_guard', 58)) AS wanted (name, kind)
    WHERE NOT EXISTS (
        SELECT FROM pg_catalog.pg_trigger AS t
        WHERE t.tgrelid = to_regclass('audit.partition_seal') AND t.tgname = wanted.name AND t.tgtype = wanted.kind
            AND t.tgfoid = to_regproc('audit.partition_seal_guard') AND t.tgenabled = 'O'
    );
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'missing in audit.partition_seal: triggers: %', missing;
    END IF;
END
$$;
