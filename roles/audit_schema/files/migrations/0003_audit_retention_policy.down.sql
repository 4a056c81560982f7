-- Never removes what others decided: refused while there is a row (0006 has taken its own away by now).
SET LOCAL row_security = off;
LOCK TABLE audit.audit_retention_policy IN ACCESS EXCLUSIVE MODE;

DO $$
BEGIN
    IF EXISTS (SELECT FROM audit.audit_retention_policy) THEN
        RAISE EXCEPTION 'audit.audit_retention_policy holds policies that were added or changed: it is not dropped'
            USING HINT = 'Save and delete those policies first.';
    END IF;
END
$$;

DROP TABLE audit.audit_retention_policy;
