-- audit.error_log: the application's own errors, range-partitioned by time.
--
-- id is the application's UUID as text. PostgreSQL demands the partition key in the primary key: so uniqueness of a
-- UUID holds per "timestamp", which is as good, since the application makes both at once.

CREATE TABLE audit.error_log (
    id              varchar(36) NOT NULL,
    category        varchar(50) NOT NULL,
    severity        varchar(20) NOT NULL,
    code            varchar(20) NOT NULL,
    message         text NOT NULL,
    component       varchar(100) NOT NULL,
    operation       varchar(100) NOT NULL,
    correlation_id  varchar(255) NOT NULL,
    user_id         varchar(255),
    session_id      varchar(255),
    request_id      varchar(255),
    retryable       varchar(10) NOT NULL,
    aggregation_key varchar(255) NOT NULL,
    context         jsonb,
    troubleshooting jsonb,
    "timestamp"     timestamp with time zone NOT NULL,
    created_at      timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT error_log_pkey PRIMARY KEY (id, "timestamp"),
    CONSTRAINT error_log_retryable_check CHECK (retryable IN ('true', 'false'))
) PARTITION BY RANGE ("timestamp");

-- The newest errors first. Keys arrive in order: the cheapest kind of B-tree.
CREATE INDEX error_log_timestamp_idx ON audit.error_log ("timestamp");

-- One component's time line; covers component alone.
CREATE INDEX error_log_component_timestamp_idx ON audit.error_log (component, "timestamp");

-- Counting by kind; covers category alone. Few values, so deduplication makes it small. severity alone selects too
-- little.
CREATE INDEX error_log_category_severity_idx ON audit.error_log (category, severity);

-- The errors of one request, from its audit event.
CREATE INDEX error_log_correlation_id_idx ON audit.error_log (correlation_id);

-- All occurrences of one error. Repeats a lot: deduplicated.
CREATE INDEX error_log_aggregation_key_idx ON audit.error_log (aggregation_key);

-- The errors that one user met. Errors of background work have no user and do not pay.
CREATE INDEX error_log_user_id_idx ON audit.error_log (user_id) WHERE user_id IS NOT NULL;

-- Records by when they were written, which is their physical order, read by ranges only: BRIN, nearly free.
CREATE INDEX error_log_created_at_idx ON audit.error_log USING brin (created_at);

COMMENT ON TABLE audit.error_log IS 'Errors of the application, one partition per interval of "timestamp"';
COMMENT ON COLUMN audit.error_log.id IS 'UUID of the error';
COMMENT ON COLUMN audit.error_log.category IS 'Kind of error, in the application''s words';
COMMENT ON COLUMN audit.error_log.severity IS 'How bad, in the application''s words';
COMMENT ON COLUMN audit.error_log.code IS 'The application''s error code';
COMMENT ON COLUMN audit.error_log.message IS 'What happened, for people to read';
COMMENT ON COLUMN audit.error_log.component IS 'Where it happened';
COMMENT ON COLUMN audit.error_log.operation IS 'What was being done';
COMMENT ON COLUMN audit.error_log.correlation_id IS 'Common to everything of one request, as in audit_log';
COMMENT ON COLUMN audit.error_log.user_id IS 'Whose request it was';
COMMENT ON COLUMN audit.error_log.session_id IS 'In which session';
COMMENT ON COLUMN audit.error_log.request_id IS 'In which request';
COMMENT ON COLUMN audit.error_log.retryable IS 'true or false, as text: whether trying again may help';
COMMENT ON COLUMN audit.error_log.aggregation_key IS 'Equal for occurrences of the same error';
COMMENT ON COLUMN audit.error_log.context IS 'Environment, metadata, stack trace';
COMMENT ON COLUMN audit.error_log.troubleshooting IS 'Possible causes and suggested actions';
COMMENT ON COLUMN audit.error_log."timestamp" IS 'When the error happened; decides the partition';
COMMENT ON COLUMN audit.error_log.created_at IS 'When it was recorded';
