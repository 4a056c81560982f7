-- Never removes evidence: refused while there is a row. row_security = off makes a policy that hides rows an error.
SET LOCAL row_security = off;
LOCK TABLE audit.error_log IN ACCESS EXCLUSIVE MODE;

DO $$
BEGIN
    IF EXISTS (SELECT FROM audit.error_log) THEN
        RAISE EXCEPTION 'audit.error_log holds errors: it is not dropped'
            USING HINT = 'Archive the errors and remove the partitions that hold them first.';
    END IF;
END
$$;

DROP TABLE audit.error_log;
