-- By name only: their figures are the operator's.
DO $$
DECLARE
    missing text;
BEGIN
    SELECT string_agg(seed.name, ', ' ORDER BY seed.name) INTO missing
    FROM (VALUES ('standard'), ('phi_extended'), ('minimal'), ('confidential')) AS seed (name)
    WHERE NOT EXISTS (SELECT FROM audit.audit_retention_policy AS policy WHERE policy.policy_name = seed.name);
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'audit.audit_retention_policy lacks the policies: %', missing;
    END IF;
END
$$;
