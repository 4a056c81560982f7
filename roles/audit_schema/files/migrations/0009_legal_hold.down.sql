-- Never removes a hold, released or not. row_security = off makes a policy that hides rows an error.
SET LOCAL row_security = off;
LOCK TABLE audit.legal_hold IN ACCESS EXCLUSIVE MODE;

DO $$
BEGIN
    IF EXISTS (SELECT FROM audit.legal_hold) THEN
        RAISE EXCEPTION 'audit.legal_hold holds evidence: it is not dropped'
            USING HINT = 'Keep it: released holds show what was kept, and why it no longer is.';
    END IF;
END
$$;

DROP TABLE audit.legal_hold;
DROP FUNCTION audit.legal_hold_guard();
