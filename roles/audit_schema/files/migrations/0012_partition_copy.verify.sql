DO $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_catalog.pg_constraint AS c
        WHERE c.conrelid = to_regclass('audit.partition_history') AND c.conname = 'partition_history_action_check'
            AND c.convalidated AND pg_catalog.pg_get_constraintdef(c.oid) LIKE '%''move''%''copy''%'
    ) THEN
        RAISE EXCEPTION 'audit.partition_history does not allow the actions move and copy';
    END IF;
END
$$;
