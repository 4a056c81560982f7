-- Never removes evidence: refused while there is a row. row_security = off makes a policy that hides rows an error.
SET LOCAL row_security = off;
LOCK TABLE audit.audit_integrity_log IN ACCESS EXCLUSIVE MODE;

DO $$
BEGIN
    IF EXISTS (SELECT FROM audit.audit_integrity_log) THEN
        RAISE EXCEPTION 'audit.audit_integrity_log holds verifications: it is not dropped'
            USING HINT = 'Archive the verifications and remove the partitions that hold them first.';
    END IF;
END
$$;

DROP TABLE audit.audit_integrity_log;
