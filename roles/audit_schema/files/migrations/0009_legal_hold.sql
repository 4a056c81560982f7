-- audit.legal_hold: what must be kept whatever its age, because a court, an authority or a person asked for it. While a
-- hold is not released, no partition that it covers leaves (module postgresql_partition, option holds).
--
-- A hold is part of the evidence. It is released by saying who did so and why, once, and is never changed or removed
-- otherwise; a trigger sees to that also for the owner.

CREATE TABLE audit.legal_hold (
    id              bigint GENERATED ALWAYS AS IDENTITY,
    table_name      varchar(255),
    time_from       timestamp with time zone,
    time_to         timestamp with time zone,
    organization_id varchar(255),
    reason          text NOT NULL,
    owner           varchar(255) NOT NULL,
    since           timestamp with time zone NOT NULL DEFAULT now(),
    created_by      varchar(255) NOT NULL DEFAULT session_user,
    released_at     timestamp with time zone,
    released_by     varchar(255),
    release_reason  text,
    CONSTRAINT legal_hold_pkey PRIMARY KEY (id),
    CONSTRAINT legal_hold_reason_check CHECK (reason <> '' AND owner <> ''),
    CONSTRAINT legal_hold_time_check CHECK (time_from < time_to),
    CONSTRAINT legal_hold_release_check CHECK (
        (released_at IS NULL AND released_by IS NULL AND release_reason IS NULL)
        OR (released_at IS NOT NULL AND released_by IS NOT NULL AND release_reason <> '')
    )
);

CREATE FUNCTION audit.legal_hold_guard()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    -- A name that is misspelt would hold nothing.
    IF TG_OP = 'INSERT' THEN
        IF NEW.table_name IS NOT NULL AND to_regclass(NEW.table_name) IS NULL THEN
            RAISE EXCEPTION 'audit.legal_hold: there is no table %', NEW.table_name
                USING HINT = 'Name it with its schema, e.g. audit.audit_log; null holds all tables.',
                    ERRCODE = 'undefined_table';
        END IF;
        RETURN NEW;
    END IF;
    IF TG_OP = 'UPDATE' AND OLD.released_at IS NULL AND NEW.released_at IS NOT NULL
        AND to_jsonb(OLD) - '{released_at,released_by,release_reason}'::text[]
            = to_jsonb(NEW) - '{released_at,released_by,release_reason}'::text[]
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'audit.legal_hold: a hold is released once, and never changed or removed'
        USING HINT = 'UPDATE audit.legal_hold SET released_at = now(), released_by = ..., release_reason = ... WHERE id = ...',
            ERRCODE = 'restrict_violation';
END
$function$;

REVOKE EXECUTE ON FUNCTION audit.legal_hold_guard() FROM PUBLIC;

CREATE TRIGGER legal_hold_row_guard BEFORE INSERT OR UPDATE OR DELETE ON audit.legal_hold
    FOR EACH ROW EXECUTE FUNCTION audit.legal_hold_guard();
CREATE TRIGGER legal_hold_truncate_guard BEFORE TRUNCATE ON audit.legal_hold
    FOR EACH STATEMENT EXECUTE FUNCTION audit.legal_hold_guard();

COMMENT ON TABLE audit.legal_hold IS 'What is kept whatever its age, until the hold is released';
COMMENT ON COLUMN audit.legal_hold.id IS 'Number of the hold';
COMMENT ON COLUMN audit.legal_hold.table_name IS 'The partitioned table, or one partition, with its schema; null for all';
COMMENT ON COLUMN audit.legal_hold.time_from IS 'First instant that is held; null for the beginning of time';
COMMENT ON COLUMN audit.legal_hold.time_to IS 'First instant that is not held; null for the end of time';
COMMENT ON COLUMN audit.legal_hold.organization_id IS 'The organization whose events are held; null for all';
COMMENT ON COLUMN audit.legal_hold.reason IS 'Why, e.g. the number of the case';
COMMENT ON COLUMN audit.legal_hold.owner IS 'Who answers for the hold, and is asked before it is released';
COMMENT ON COLUMN audit.legal_hold.since IS 'Since when it holds';
COMMENT ON COLUMN audit.legal_hold.created_by IS 'The login that made it';
COMMENT ON COLUMN audit.legal_hold.released_at IS 'When it was released; null while it holds';
COMMENT ON COLUMN audit.legal_hold.released_by IS 'Who released it';
COMMENT ON COLUMN audit.legal_hold.release_reason IS 'Why it was released';
