-- Never removes a seal. row_security = off makes a policy that hides rows an error.
SET LOCAL row_security = off;
LOCK TABLE audit.partition_seal IN ACCESS EXCLUSIVE MODE;

DO $$
BEGIN
    IF EXISTS (SELECT FROM audit.partition_seal) THEN
        RAISE EXCEPTION 'audit.partition_seal holds evidence: it is not dropped'
            USING HINT = 'Keep it: without its seal, a row that was changed is not found.';
    END IF;
END
$$;

DROP TABLE audit.partition_seal;
DROP FUNCTION audit.partition_seal_guard();
