-- audit.audit_integrity_log: every verification of an audit event, and what came of it.
--
-- A foreign key to a partitioned table must name its whole primary key, hence audit_log_timestamp. That column also
-- partitions this table, so that the verifications of a month are detached just before the events of that month: a
-- partition of audit_log cannot leave while rows refer to it.

CREATE TABLE audit.audit_integrity_log (
    id                     bigint GENERATED ALWAYS AS IDENTITY,
    audit_log_id           bigint NOT NULL,
    audit_log_timestamp    timestamp with time zone NOT NULL,
    verification_timestamp timestamp with time zone NOT NULL DEFAULT now(),
    verification_status    varchar(20) NOT NULL,
    verification_details   jsonb,
    verified_by            varchar(255),
    hash_verified          varchar(64),
    expected_hash          varchar(64),
    CONSTRAINT audit_integrity_log_pkey PRIMARY KEY (id, audit_log_timestamp),
    CONSTRAINT audit_integrity_log_audit_log_fkey FOREIGN KEY (audit_log_id, audit_log_timestamp)
        REFERENCES audit.audit_log (id, "timestamp"),
    CONSTRAINT audit_integrity_log_verification_status_check
        CHECK (verification_status IN ('success', 'failure', 'tampered'))
) PARTITION BY RANGE (audit_log_timestamp);

-- The verifications of one event. Without it, detaching a partition of audit_log reads this table once per event.
CREATE INDEX audit_integrity_log_audit_log_idx ON audit.audit_integrity_log (audit_log_id, audit_log_timestamp);

-- What was verified when. Rows are written in this order and read by ranges: BRIN, nearly free.
CREATE INDEX audit_integrity_log_verification_timestamp_idx
    ON audit.audit_integrity_log USING brin (verification_timestamp);

-- The bad news. Rare, so the index is almost empty and a successful verification does not pay for it.
CREATE INDEX audit_integrity_log_not_success_idx ON audit.audit_integrity_log (verification_timestamp)
    WHERE verification_status <> 'success';

-- No index on verified_by: a handful of verifiers, each of whom has a large part of the rows.

COMMENT ON TABLE audit.audit_integrity_log IS
    'Verifications of audit events, append-only, partitioned like audit_log';
COMMENT ON COLUMN audit.audit_integrity_log.id IS
    'Number of the verification, unique together with audit_log_timestamp';
COMMENT ON COLUMN audit.audit_integrity_log.audit_log_id IS 'audit_log.id of the verified event';
COMMENT ON COLUMN audit.audit_integrity_log.audit_log_timestamp IS
    'audit_log."timestamp" of the verified event; decides the partition';
COMMENT ON COLUMN audit.audit_integrity_log.verification_timestamp IS 'When it was verified';
COMMENT ON COLUMN audit.audit_integrity_log.verification_status IS
    'success, failure (could not be verified) or tampered';
COMMENT ON COLUMN audit.audit_integrity_log.verification_details IS 'What the verifier adds';
COMMENT ON COLUMN audit.audit_integrity_log.verified_by IS 'The system or person that verified';
COMMENT ON COLUMN audit.audit_integrity_log.hash_verified IS 'The hash found in the event';
COMMENT ON COLUMN audit.audit_integrity_log.expected_hash IS 'The hash computed from the event';
