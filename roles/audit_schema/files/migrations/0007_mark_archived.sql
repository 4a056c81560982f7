-- audit.mark_archived(): the narrow way to set audit_log.archived_at, the one column of an append-only table that
-- changes.
--
-- It runs with its owner's rights, so whoever may call it needs no UPDATE. It can do one thing: stamp the events of a
-- range that have no stamp yet, with the time of the transaction. It never moves or removes a stamp.
--
-- An archiver copies and stamps in ONE transaction at isolation level REPEATABLE READ. Then both see the same events:
-- one that was written in between is neither copied nor stamped, and the next round takes it.

CREATE FUNCTION audit.mark_archived(p_from timestamp with time zone, p_to timestamp with time zone)
RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    marked bigint;
BEGIN
    IF p_from IS NULL OR p_to IS NULL OR p_from >= p_to THEN
        RAISE EXCEPTION 'mark_archived: p_from must be before p_to, got % and %', p_from, p_to
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    UPDATE audit.audit_log
    SET archived_at = now()
    WHERE "timestamp" >= p_from AND "timestamp" < p_to AND archived_at IS NULL;
    GET DIAGNOSTICS marked = ROW_COUNT;
    RETURN marked;
END
$function$;

-- PostgreSQL lets everybody execute a new function. Who may is decided elsewhere (role audit_access).
REVOKE EXECUTE ON FUNCTION audit.mark_archived(timestamp with time zone, timestamp with time zone) FROM PUBLIC;

COMMENT ON FUNCTION audit.mark_archived(timestamp with time zone, timestamp with time zone) IS
    'Stamps archived_at of the events in [p_from, p_to) that have no stamp, and returns how many those were';
