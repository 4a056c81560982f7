-- Takes away what the migration put there and nobody has changed; the rest stays.

DELETE FROM audit.audit_retention_policy AS policy
USING (VALUES
    ('standard', 'INTERNAL', 2555, 365, 'Kept seven years, archived after one'),
    ('phi_extended', 'PHI', 2555, 365, 'Health information: kept seven years'),
    ('minimal', 'PUBLIC', 90, 30, 'Kept ninety days, archived after thirty'),
    ('confidential', 'CONFIDENTIAL', 1825, 365, 'Kept five years, archived after one')
) AS seed (name, classification, retention, archive, description)
WHERE policy.policy_name = seed.name
    AND policy.data_classification = seed.classification
    AND policy.retention_days = seed.retention
    AND policy.archive_after_days = seed.archive
    AND policy.description = seed.description
    AND policy.delete_after_days IS NULL
    AND policy.is_active = 'true'
    AND policy.created_by = 'auditdb.postgresql'
    AND policy.updated_at = policy.created_at;
