-- audit.audit_log: one row per audit event, range-partitioned by the time of the event.
--
-- id is GENERATED ALWAYS: an application that names its own id by mistake is refused instead of colliding later with
-- the sequence. Loaders that must keep ids (a conversion, a restore) say OVERRIDING SYSTEM VALUE or use COPY. The
-- primary key includes "timestamp" because PostgreSQL demands the partition key in every unique constraint.
--
-- A refused audit event is lost evidence. So the checks cover only what the specification enumerates and what is
-- impossible; nullability follows the specification, and the form of "hash" is left to the verifier.

CREATE TABLE audit.audit_log (
    id                   bigint GENERATED ALWAYS AS IDENTITY,
    "timestamp"          timestamp with time zone NOT NULL,
    ttl                  varchar(255),
    principal_id         varchar(255),
    organization_id      varchar(255),
    action               varchar(255) NOT NULL,
    target_resource_type varchar(255),
    target_resource_id   varchar(255),
    status               varchar(50) NOT NULL,
    outcome_description  text,
    hash                 varchar(64),
    hash_algorithm       varchar(50) DEFAULT 'SHA-256',
    event_version        varchar(20) DEFAULT '1.0',
    correlation_id       varchar(255),
    data_classification  varchar(20) DEFAULT 'INTERNAL',
    retention_policy     varchar(50) DEFAULT 'standard',
    processing_latency   integer,
    archived_at          timestamp with time zone,
    details              jsonb,
    CONSTRAINT audit_log_pkey PRIMARY KEY (id, "timestamp"),
    CONSTRAINT audit_log_status_check CHECK (status IN ('attempt', 'success', 'failure')),
    CONSTRAINT audit_log_data_classification_check
        CHECK (data_classification IN ('PUBLIC', 'INTERNAL', 'CONFIDENTIAL', 'PHI')),
    CONSTRAINT audit_log_processing_latency_check CHECK (processing_latency >= 0)
) PARTITION BY RANGE ("timestamp");

-- Indexes. Each costs every insert, for ever. The cost in brackets is bytes of index per row, measured over 150,000
-- events of one month (docs/schema.md has the table and what was left out).

-- Core: the time line, newest first, and its failures without a visit to the table. Keys arrive in order, so inserts
-- touch the rightmost page only. Covers the single index on "timestamp". A BRIN index would cost nothing, but cannot
-- return the newest rows in order: the commonest question would sort a month. [32]
CREATE INDEX audit_log_timestamp_status_idx ON audit.audit_log ("timestamp", status);

-- Core: one organization's time line. Covers the single index on organization_id. Events of no organization (those of
-- the hosts themselves) pay nothing, here and in the partial indexes below. [36]
CREATE INDEX audit_log_organization_timestamp_idx ON audit.audit_log (organization_id, "timestamp")
    WHERE organization_id IS NOT NULL;

-- Composite: what somebody did, and whether they did this. Covers the single index on principal_id. [58]
CREATE INDEX audit_log_principal_action_idx ON audit.audit_log (principal_id, action)
    WHERE principal_id IS NOT NULL;

-- Core: who did this. A few hundred distinct values: deduplication makes it small. [9]
CREATE INDEX audit_log_action_idx ON audit.audit_log (action);

-- Composite: what happened to this thing. The id comes first, because it is what selects: so the index answers for the
-- id alone and for id with type, where (type, id) would need a second index. The type alone selects too little. [89]
CREATE INDEX audit_log_resource_idx ON audit.audit_log (target_resource_id, target_resource_type)
    WHERE target_resource_id IS NOT NULL;

-- Compliance: the other events of this request. Only ever compared for equality, but a hash index is as large, and its
-- buckets overflow when a batch job gives a million events one id, which a B-tree deduplicates. [38]
CREATE INDEX audit_log_correlation_id_idx ON audit.audit_log (correlation_id)
    WHERE correlation_id IS NOT NULL;

-- Compliance: events by classification and policy, mostly the rare ones (PHI). Covers the single index on
-- data_classification; retention_policy alone has four values. [7]
CREATE INDEX audit_log_classification_retention_idx ON audit.audit_log (data_classification, retention_policy);

-- Compliance: what is archived, what is not. Whole ranges are archived at once, so BRIN tells blocks apart; it is
-- nearly free, and unlike a B-tree it lets PostgreSQL 16+ keep the updates of archived_at heap-only. [0]
CREATE INDEX audit_log_archived_at_idx ON audit.audit_log USING brin (archived_at);

-- Is this hash there? Equality only: four bytes of hash code instead of 64 characters of key. [36]
CREATE INDEX audit_log_hash_idx ON audit.audit_log USING hash (hash);

-- Any field of details by containment (@>) and JSON path. The dearest one; jsonb_path_ops makes it smaller and faster
-- than the default class, at the price of the key-exists operators (?). [91]
CREATE INDEX audit_log_details_idx ON audit.audit_log USING gin (details jsonb_path_ops);

COMMENT ON TABLE audit.audit_log IS 'Audit events, append-only, one partition per interval of "timestamp"';
COMMENT ON COLUMN audit.audit_log.id IS 'Number of the event, unique together with "timestamp"';
COMMENT ON COLUMN audit.audit_log."timestamp" IS 'When the event happened, as its source says; decides the partition';
COMMENT ON COLUMN audit.audit_log.ttl IS 'How long the source wants the event kept, in the source''s own words';
COMMENT ON COLUMN audit.audit_log.principal_id IS 'Who acted';
COMMENT ON COLUMN audit.audit_log.organization_id IS 'For which organization';
COMMENT ON COLUMN audit.audit_log.action IS 'What was done, e.g. user.login';
COMMENT ON COLUMN audit.audit_log.target_resource_type IS 'Kind of the thing acted on, e.g. Patient';
COMMENT ON COLUMN audit.audit_log.target_resource_id IS 'The thing acted on';
COMMENT ON COLUMN audit.audit_log.status IS 'attempt, success or failure';
COMMENT ON COLUMN audit.audit_log.outcome_description IS 'What came of it, for people to read';
COMMENT ON COLUMN audit.audit_log.hash IS 'Digest of the event, hexadecimal, computed by the writer';
COMMENT ON COLUMN audit.audit_log.hash_algorithm IS 'How hash was computed';
COMMENT ON COLUMN audit.audit_log.event_version IS 'Version of the event''s format';
COMMENT ON COLUMN audit.audit_log.correlation_id IS
    'Common to all events of one request; refers to nothing in this database';
COMMENT ON COLUMN audit.audit_log.data_classification IS
    'PUBLIC, INTERNAL, CONFIDENTIAL or PHI (protected health information)';
COMMENT ON COLUMN audit.audit_log.retention_policy IS
    'audit_retention_policy.policy_name; not a foreign key, so that an unknown policy never refuses an event';
COMMENT ON COLUMN audit.audit_log.processing_latency IS 'Milliseconds from the event to its record';
COMMENT ON COLUMN audit.audit_log.archived_at IS
    'When the event was copied to the archive; set by audit.mark_archived() only';
COMMENT ON COLUMN audit.audit_log.details IS 'Everything else the source said';
