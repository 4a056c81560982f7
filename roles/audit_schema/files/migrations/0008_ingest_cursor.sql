-- audit.ingest_cursor: how far each source of events has been loaded. A loader moves its cursor in the transaction
-- that writes the events, so that loading again after any interruption adds nothing twice and leaves nothing out.

CREATE TABLE audit.ingest_cursor (
    source     varchar(100) NOT NULL,
    host       varchar(255) NOT NULL,
    cursor     text NOT NULL,
    updated_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT ingest_cursor_pkey PRIMARY KEY (source, host)
);

COMMENT ON TABLE audit.ingest_cursor IS 'How far each source of events has been loaded';
COMMENT ON COLUMN audit.ingest_cursor.source IS 'The source, e.g. journal';
COMMENT ON COLUMN audit.ingest_cursor.host IS 'The host whose events they are';
COMMENT ON COLUMN audit.ingest_cursor.cursor IS 'Position of the last event loaded, in the source''s own format';
COMMENT ON COLUMN audit.ingest_cursor.updated_at IS 'When the position was last moved';
