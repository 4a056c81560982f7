-- The four policies that the application knows. From here on they are the operator's: a policy that is there already,
-- changed or not, stays as it is.

INSERT INTO audit.audit_retention_policy
    (policy_name, data_classification, retention_days, archive_after_days, created_by, description)
VALUES
    ('standard', 'INTERNAL', 2555, 365, 'auditdb.postgresql', 'Kept seven years, archived after one'),
    ('phi_extended', 'PHI', 2555, 365, 'auditdb.postgresql', 'Health information: kept seven years'),
    ('minimal', 'PUBLIC', 90, 30, 'auditdb.postgresql', 'Kept ninety days, archived after thirty'),
    ('confidential', 'CONFIDENTIAL', 1825, 365, 'auditdb.postgresql', 'Kept five years, archived after one')
ON CONFLICT (policy_name) DO NOTHING;
