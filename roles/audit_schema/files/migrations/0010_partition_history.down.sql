-- Never removes a trace. row_security = off makes a policy that hides rows an error.
SET LOCAL row_security = off;
LOCK TABLE audit.partition_history IN ACCESS EXCLUSIVE MODE;

DO $$
BEGIN
    IF EXISTS (SELECT FROM audit.partition_history) THEN
        RAISE EXCEPTION 'audit.partition_history holds evidence: it is not dropped'
            USING HINT = 'Keep it: it is the only trace of the partitions that left, and of where their rows are.';
    END IF;
END
$$;

DROP TABLE audit.partition_history;
DROP FUNCTION audit.partition_history_guard();
