-- audit.scheduled_reports and audit.report_executions: which compliance reports are made when, and how that went.
--
-- Small tables, never on the path of an audit event: not partitioned, and indexed for the two readers they have, the
-- scheduler and the report page of an organization.

CREATE TABLE audit.scheduled_reports (
    id              varchar(255) NOT NULL,
    name            varchar(255) NOT NULL,
    description     text,
    organization_id varchar(255) NOT NULL,
    template_id     varchar(255),
    report_type     varchar(50) NOT NULL,
    criteria        jsonb NOT NULL,
    format          varchar(50) NOT NULL,
    schedule        jsonb NOT NULL,
    delivery        jsonb NOT NULL,
    export          jsonb NOT NULL,
    enabled         varchar(10) NOT NULL DEFAULT 'true',
    last_run        timestamp with time zone,
    next_run        timestamp with time zone,
    created_at      timestamp with time zone NOT NULL DEFAULT now(),
    created_by      varchar(255) NOT NULL,
    updated_at      timestamp with time zone NOT NULL DEFAULT now(),
    updated_by      varchar(255),
    CONSTRAINT scheduled_reports_pkey PRIMARY KEY (id),
    CONSTRAINT scheduled_reports_enabled_check CHECK (enabled IN ('true', 'false'))
);

CREATE TABLE audit.report_executions (
    id                varchar(255) NOT NULL,
    report_config_id  varchar(255) NOT NULL,
    organization_id   varchar(255) NOT NULL,
    scheduled_time    timestamp with time zone NOT NULL,
    execution_time    timestamp with time zone NOT NULL,
    status            varchar(20) NOT NULL,
    duration          integer,
    records_processed integer,
    export_result     jsonb,
    integrity_report  jsonb,
    delivery_attempts jsonb NOT NULL DEFAULT '[]',
    error             text,
    created_at        timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT report_executions_pkey PRIMARY KEY (id),
    CONSTRAINT report_executions_report_config_fkey FOREIGN KEY (report_config_id)
        REFERENCES audit.scheduled_reports (id),
    CONSTRAINT report_executions_duration_check CHECK (duration >= 0),
    CONSTRAINT report_executions_records_processed_check CHECK (records_processed >= 0)
);

-- The scheduler's only question: what is due?
CREATE INDEX scheduled_reports_due_idx ON audit.scheduled_reports (next_run) WHERE enabled = 'true';

-- An organization's reports; covers organization_id alone.
CREATE INDEX scheduled_reports_organization_enabled_idx ON audit.scheduled_reports (organization_id, enabled);

-- A report's history, newest first; covers the foreign key, which the deletion of a report checks.
CREATE INDEX report_executions_report_config_execution_time_idx
    ON audit.report_executions (report_config_id, execution_time);

-- An organization's history; covers organization_id alone.
CREATE INDEX report_executions_organization_execution_time_idx
    ON audit.report_executions (organization_id, execution_time);

COMMENT ON TABLE audit.scheduled_reports IS 'Compliance reports to be made on a schedule';
COMMENT ON COLUMN audit.scheduled_reports.id IS 'The application''s identifier of the report';
COMMENT ON COLUMN audit.scheduled_reports.name IS 'What people call it';
COMMENT ON COLUMN audit.scheduled_reports.description IS 'What it is for';
COMMENT ON COLUMN audit.scheduled_reports.organization_id IS 'Whose report it is';
COMMENT ON COLUMN audit.scheduled_reports.template_id IS
    'The template it was made from; refers to nothing in this schema';
COMMENT ON COLUMN audit.scheduled_reports.report_type IS 'Kind of report, in the application''s words';
COMMENT ON COLUMN audit.scheduled_reports.criteria IS 'Which events it covers';
COMMENT ON COLUMN audit.scheduled_reports.format IS 'File format, in the application''s words';
COMMENT ON COLUMN audit.scheduled_reports.schedule IS 'When it is made';
COMMENT ON COLUMN audit.scheduled_reports.delivery IS 'Whom it goes to, and how';
COMMENT ON COLUMN audit.scheduled_reports.export IS 'How the file is made';
COMMENT ON COLUMN audit.scheduled_reports.enabled IS 'true or false, as text: the application''s own format';
COMMENT ON COLUMN audit.scheduled_reports.last_run IS 'When it was last made';
COMMENT ON COLUMN audit.scheduled_reports.next_run IS 'When it is due';
COMMENT ON COLUMN audit.scheduled_reports.created_at IS 'When the schedule was made';
COMMENT ON COLUMN audit.scheduled_reports.created_by IS 'Who made it';
COMMENT ON COLUMN audit.scheduled_reports.updated_at IS 'When it was last changed';
COMMENT ON COLUMN audit.scheduled_reports.updated_by IS 'Who last changed it';

COMMENT ON TABLE audit.report_executions IS 'Every making of a scheduled report, and how it went';
COMMENT ON COLUMN audit.report_executions.id IS 'The application''s identifier of the execution';
COMMENT ON COLUMN audit.report_executions.report_config_id IS 'scheduled_reports.id';
COMMENT ON COLUMN audit.report_executions.organization_id IS 'Whose report it is';
COMMENT ON COLUMN audit.report_executions.scheduled_time IS 'When it was due';
COMMENT ON COLUMN audit.report_executions.execution_time IS 'When it started';
COMMENT ON COLUMN audit.report_executions.status IS 'How it went, in the application''s words';
COMMENT ON COLUMN audit.report_executions.duration IS 'How long it took, in milliseconds';
COMMENT ON COLUMN audit.report_executions.records_processed IS 'How many events it covers';
COMMENT ON COLUMN audit.report_executions.export_result IS 'The file that was made';
COMMENT ON COLUMN audit.report_executions.integrity_report IS 'Outcome of verifying the events it covers';
COMMENT ON COLUMN audit.report_executions.delivery_attempts IS 'List of attempts to deliver it';
COMMENT ON COLUMN audit.report_executions.error IS 'Why it failed';
COMMENT ON COLUMN audit.report_executions.created_at IS 'When this was recorded';
