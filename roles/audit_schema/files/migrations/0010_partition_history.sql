-- audit.partition_history: every partition that left its table, and where its rows are. Module postgresql_partition
-- writes a row in the transaction in which a partition leaves (option history), postgresql_partition_purge one for the
-- expired rows of a partition that stays. So nothing goes without a trace, and a run that was killed before its archive
-- was complete is gone on with.
--
-- What has happened is filled in once and never changed; a trigger sees to that also for the owner.

CREATE TABLE audit.partition_history (
    id                bigint GENERATED ALWAYS AS IDENTITY,
    table_name        text NOT NULL,
    partition_schema  text NOT NULL,
    partition_name    text NOT NULL,
    part_of           text,
    time_from         timestamp with time zone NOT NULL,
    time_to           timestamp with time zone NOT NULL,
    action            varchar(20) NOT NULL,
    left_at           timestamp with time zone NOT NULL DEFAULT now(),
    left_by           varchar(255) NOT NULL DEFAULT session_user,
    row_count         bigint,
    sha256            varchar(64),
    archive_name      text,
    archive_directory text,
    manifest_sha256   varchar(64),
    archived_at       timestamp with time zone,
    dropped_at        timestamp with time zone,
    CONSTRAINT partition_history_pkey PRIMARY KEY (id),
    CONSTRAINT partition_history_action_check CHECK (action IN ('detach', 'drop', 'archive')),
    CONSTRAINT partition_history_time_check CHECK (time_from < time_to),
    CONSTRAINT partition_history_archived_check CHECK (
        num_nulls(row_count, sha256, archive_name, archive_directory, manifest_sha256, archived_at) IN (0, 6)
    ),
    CONSTRAINT partition_history_dropped_check CHECK (action <> 'archive' OR dropped_at IS NULL OR archived_at IS NOT NULL)
);

CREATE FUNCTION audit.partition_history_guard()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    -- What was null may be filled in; nothing else changes.
    IF TG_OP = 'UPDATE' AND jsonb_strip_nulls(to_jsonb(OLD)) <@ to_jsonb(NEW) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'audit.partition_history: what has happened is never changed or removed'
        USING ERRCODE = 'restrict_violation';
END
$function$;

REVOKE EXECUTE ON FUNCTION audit.partition_history_guard() FROM PUBLIC;

CREATE TRIGGER partition_history_row_guard BEFORE UPDATE OR DELETE ON audit.partition_history
    FOR EACH ROW EXECUTE FUNCTION audit.partition_history_guard();
CREATE TRIGGER partition_history_truncate_guard BEFORE TRUNCATE ON audit.partition_history
    FOR EACH STATEMENT EXECUTE FUNCTION audit.partition_history_guard();

COMMENT ON TABLE audit.partition_history IS 'Every partition that left its table, and where its rows are';
COMMENT ON COLUMN audit.partition_history.id IS 'Number of the departure';
COMMENT ON COLUMN audit.partition_history.table_name IS 'The partitioned table that it left, with its schema';
COMMENT ON COLUMN audit.partition_history.partition_schema IS 'Schema of the partition';
COMMENT ON COLUMN audit.partition_history.partition_name IS 'Name of the partition';
COMMENT ON COLUMN audit.partition_history.part_of IS
    'The partition that expired rows were taken from; null where a whole partition left';
COMMENT ON COLUMN audit.partition_history.time_from IS 'First instant that it held';
COMMENT ON COLUMN audit.partition_history.time_to IS 'First instant that it did not hold';
COMMENT ON COLUMN audit.partition_history.action IS 'detach (stays as a table), drop, or archive (dropped once its archive was read back)';
COMMENT ON COLUMN audit.partition_history.left_at IS 'When it left';
COMMENT ON COLUMN audit.partition_history.left_by IS 'The login that let it go';
COMMENT ON COLUMN audit.partition_history.row_count IS 'Rows in the archive; null without one';
COMMENT ON COLUMN audit.partition_history.sha256 IS 'The seal of the archived rows (docs/decisions/what-a-seal-covers.md)';
COMMENT ON COLUMN audit.partition_history.archive_name IS 'Name of the archive';
COMMENT ON COLUMN audit.partition_history.archive_directory IS 'Directory that it was written to';
COMMENT ON COLUMN audit.partition_history.manifest_sha256 IS 'SHA-256 of its manifest, without which a forged archive is not found';
COMMENT ON COLUMN audit.partition_history.archived_at IS 'When the archive was complete and read back';
COMMENT ON COLUMN audit.partition_history.dropped_at IS 'When the table was dropped; null while it stands';
