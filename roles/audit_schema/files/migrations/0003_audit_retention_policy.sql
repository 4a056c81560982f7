-- audit.audit_retention_policy: how long events are kept, and when they move to the archive.
--
-- No index beside the two that the constraints make: the table is one page, which is always read whole.

CREATE TABLE audit.audit_retention_policy (
    id                  integer GENERATED ALWAYS AS IDENTITY,
    policy_name         varchar(100) NOT NULL,
    retention_days      integer NOT NULL,
    archive_after_days  integer,
    delete_after_days   integer,
    data_classification varchar(20) NOT NULL,
    description         text,
    is_active           varchar(10) DEFAULT 'true',
    created_at          timestamp with time zone NOT NULL DEFAULT now(),
    updated_at          timestamp with time zone NOT NULL DEFAULT now(),
    created_by          varchar(255),
    CONSTRAINT audit_retention_policy_pkey PRIMARY KEY (id),
    CONSTRAINT audit_retention_policy_policy_name_key UNIQUE (policy_name),
    CONSTRAINT audit_retention_policy_retention_days_check CHECK (retention_days > 0),
    CONSTRAINT audit_retention_policy_archive_after_days_check CHECK (archive_after_days > 0),
    CONSTRAINT audit_retention_policy_delete_after_days_check CHECK (delete_after_days > 0),
    CONSTRAINT audit_retention_policy_data_classification_check
        CHECK (data_classification IN ('PUBLIC', 'INTERNAL', 'CONFIDENTIAL', 'PHI')),
    CONSTRAINT audit_retention_policy_is_active_check CHECK (is_active IN ('true', 'false'))
);

COMMENT ON TABLE audit.audit_retention_policy IS 'How long events are kept, by policy; rows belong to the operator';
COMMENT ON COLUMN audit.audit_retention_policy.policy_name IS 'What audit_log.retention_policy says';
COMMENT ON COLUMN audit.audit_retention_policy.retention_days IS 'Days that events are kept';
COMMENT ON COLUMN audit.audit_retention_policy.archive_after_days IS
    'Days after which events go to the archive; null: never';
COMMENT ON COLUMN audit.audit_retention_policy.delete_after_days IS
    'Days after which events are deleted for good; null: never';
COMMENT ON COLUMN audit.audit_retention_policy.data_classification IS 'PUBLIC, INTERNAL, CONFIDENTIAL or PHI';
COMMENT ON COLUMN audit.audit_retention_policy.description IS 'Why, for people to read';
COMMENT ON COLUMN audit.audit_retention_policy.is_active IS 'true or false, as text: the application''s own format';
COMMENT ON COLUMN audit.audit_retention_policy.created_at IS 'When the policy was made';
COMMENT ON COLUMN audit.audit_retention_policy.updated_at IS 'When the policy was last changed';
COMMENT ON COLUMN audit.audit_retention_policy.created_by IS 'Who made the policy';
