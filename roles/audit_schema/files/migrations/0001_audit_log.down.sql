-- Never removes evidence: refused while there is a row. row_security = off makes a policy that hides rows an error.
SET LOCAL row_security = off;
LOCK TABLE audit.audit_log IN ACCESS EXCLUSIVE MODE;

DO $$
BEGIN
    IF EXISTS (SELECT FROM audit.audit_log) THEN
        RAISE EXCEPTION 'audit.audit_log holds events: it is not dropped'
            USING HINT = 'Archive the events and remove the partitions that hold them first.';
    END IF;
END
$$;

DROP TABLE audit.audit_log;
