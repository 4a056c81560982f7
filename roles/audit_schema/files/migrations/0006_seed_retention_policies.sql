-- The four policies that the application knows. From here on they are the operator's: a policy that is there already,
-- changed or not, stays as it is.

INSERT INTO audit.audit_retention_policy
    (policy_name, data_classification, retention_days, archive_after_days, description, created_by)
VALUES
    ('standard', 'INTERNAL', 2555, 365, 'Kept seven years, archived after one', 'auditdb.postgresql'),
    ('phi_extended', 'PHI', 2555, 365, 'Health information: kept seven years, archived after one', 'auditdb.postgresql'),
    ('minimal', 'PUBLIC', 90, 30, 'Kept ninety days, archived after thirty', 'auditdb.postgresql'),
    ('confidential', 'CONFIDENTIAL', 1825, 365, 'Kept five years, archived after one', 'auditdb.postgresql')
ON CONFLICT (policy_name) DO NOTHING;
