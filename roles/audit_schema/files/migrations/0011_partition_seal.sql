-- audit.partition_seal: what the rows of a partition were when it was closed, so that a row that changes afterwards is
-- found (module postgresql_partition_seal). docs/decisions/what-a-seal-covers.md says what is covered.
--
-- Seals are added and never changed or removed; a trigger sees to that also for the owner. A partition that took late
-- rows gets another seal, which names the one that it follows.

CREATE TABLE audit.partition_seal (
    id               bigint GENERATED ALWAYS AS IDENTITY,
    table_name       text NOT NULL,
    partition_schema text NOT NULL,
    partition_name   text NOT NULL,
    time_from        timestamp with time zone NOT NULL,
    time_to          timestamp with time zone NOT NULL,
    sealed_at        timestamp with time zone NOT NULL DEFAULT now(),
    sealed_by        varchar(255) NOT NULL DEFAULT session_user,
    row_count        bigint NOT NULL,
    sha256           varchar(64) NOT NULL,
    seal             jsonb NOT NULL,
    previous_id      bigint,
    CONSTRAINT partition_seal_pkey PRIMARY KEY (id),
    CONSTRAINT partition_seal_previous_id_fkey FOREIGN KEY (previous_id) REFERENCES audit.partition_seal (id),
    CONSTRAINT partition_seal_previous_id_key UNIQUE (previous_id),
    CONSTRAINT partition_seal_time_check CHECK (time_from < time_to),
    CONSTRAINT partition_seal_row_count_check CHECK (row_count >= 0)
);

-- The seal of a partition, the newest first.
CREATE INDEX partition_seal_partition_idx ON audit.partition_seal (table_name, partition_schema, partition_name, id);

CREATE FUNCTION audit.partition_seal_guard()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    RAISE EXCEPTION 'audit.partition_seal: a seal is never changed or removed'
        USING ERRCODE = 'restrict_violation';
END
$function$;

REVOKE EXECUTE ON FUNCTION audit.partition_seal_guard() FROM PUBLIC;

CREATE TRIGGER partition_seal_guard BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.partition_seal
    FOR EACH STATEMENT EXECUTE FUNCTION audit.partition_seal_guard();

COMMENT ON TABLE audit.partition_seal IS 'What the rows of closed partitions were';
COMMENT ON COLUMN audit.partition_seal.id IS 'Number of the seal';
COMMENT ON COLUMN audit.partition_seal.table_name IS 'The partitioned table, with its schema';
COMMENT ON COLUMN audit.partition_seal.partition_schema IS 'Schema of the partition';
COMMENT ON COLUMN audit.partition_seal.partition_name IS 'Name of the partition';
COMMENT ON COLUMN audit.partition_seal.time_from IS 'First instant that it holds';
COMMENT ON COLUMN audit.partition_seal.time_to IS 'First instant that it does not hold';
COMMENT ON COLUMN audit.partition_seal.sealed_at IS 'When it was sealed';
COMMENT ON COLUMN audit.partition_seal.sealed_by IS 'The login that sealed it';
COMMENT ON COLUMN audit.partition_seal.row_count IS 'Number of its rows';
COMMENT ON COLUMN audit.partition_seal.sha256 IS 'Digest of its rows';
COMMENT ON COLUMN audit.partition_seal.seal IS 'The whole seal: columns, order, digests of the ranges of rows';
COMMENT ON COLUMN audit.partition_seal.previous_id IS 'The seal that this one follows, since late rows were added; null for the first';
