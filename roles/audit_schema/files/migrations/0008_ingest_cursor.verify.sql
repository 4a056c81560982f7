DO $$
DECLARE
    missing text;
BEGIN
    SELECT string_agg(concat_ws(' ', wanted.tab, wanted.name, wanted.type), ', ' ORDER BY wanted.tab, wanted.name)
    INTO missing
    FROM (VALUES
        ('ingest_cursor', 'source', 'character varying(100) NOT NULL'),
        ('ingest_cursor', 'host', 'character varying(255) NOT NULL'),
        ('ingest_cursor', 'cursor', 'text NOT NULL'),
        ('ingest_cursor', 'updated_at', 'timestamp with time zone NOT NULL')
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
        ('ingest_cursor', 'ingest_cursor_pkey')
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
