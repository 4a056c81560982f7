-- Takes away what the migration put there and nobody has changed; the rest stays.

DELETE FROM audit.audit_retention_policy AS policy
USING (VALUES
    ('standard', 'INTERNAL', 2555, 365),
    ('phi_extended', 'PHI', 2555, 365),
    ('minimal', 'PUBLIC', 90, 30),
    ('confidential', 'CONFIDENTIAL', 1825, 365)
) AS seed (policy_name, data_classification, retention_days, archive_after_days)
WHERE (policy.policy_name, policy.data_classification, policy.retention_days, policy.archive_after_days)
        = (seed.policy_name, seed.data_classification, seed.retention_days, seed.archive_after_days)
    AND policy.created_by = 'auditdb.postgresql'
    AND policy.is_active = 'true'
    AND policy.delete_after_days IS NULL
    AND policy.updated_at = policy.created_at;
