DO $$
DECLARE
    missing text;
BEGIN
    SELECT string_agg(concat_ws(' ', wanted.tab, wanted.name, wanted.type), ', ' ORDER BY wanted.tab, wanted.name)
    INTO missing
    FROM (VALUES
        ('legal_hold', 'id', 'bigint NOT NULL'),
        ('legal_hold', 'table_name', 'character varying(255)'),
        ('legal_hold', 'time_from', 'timestamp with time zone'),
        ('legal_hold', 'time_to', 'timestamp with time zone'),
        ('legal_hold', 'organization_id', 'character varying(255)'),
        ('legal_hold', 'reason', 'text NOT NULL'),
        ('legal_hold', 'owner', 'character varying(255) NOT NULL'),
        ('legal_hold', 'since', 'timestamp with time zone NOT NULL'),
        ('legal_hold', 'created_by', 'character varying(255) NOT NULL'),
        ('legal_hold', 'released_at', 'timestamp with time zone'),
        ('legal_hold', 'released_by', 'character varying(255)'),
        ('legal_hold', 'release_reason', 'text')
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
        ('legal_hold', 'legal_hold_pkey'),
        ('legal_hold', 'legal_hold_reason_check'),
        ('legal_hold', 'legal_hold_time_check'),
        ('legal_hold', 'legal_hold_release_check')
    ) AS wanted (tab, name)
    WHERE NOT EXISTS (
        SELECT FROM pg_catalog.pg_constraint AS c
        WHERE c.conrelid = to_regclass('audit.' || wanted.tab) AND c.conname = wanted.name AND c.convalidated
    );
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'missing in schema audit: constraints: %', missing;
    END IF;

    SELECT string_agg(wanted.name, ', ' ORDER BY wanted.name)
    INTO missing
    FROM (VALUES ('legal_hold_row_guard', 31), ('legal_hold_truncate_guard', 34)) AS wanted (name, kind)
    WHERE NOT EXISTS (
        SELECT FROM pg_catalog.pg_trigger AS t
        WHERE t.tgrelid = to_regclass('audit.legal_hold') AND t.tgname = wanted.name AND t.tgtype = wanted.kind
            AND t.tgfoid = to_regproc('audit.legal_hold_guard') AND t.tgenabled = 'O'
    );
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'missing in schema audit: triggers: %', missing;
    END IF;
END
$$;
