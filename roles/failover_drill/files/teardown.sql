-- On each member: who leads does it, and says so; the others have it from there.
DO $$
BEGIN
  IF NOT pg_is_in_recovery() AND EXISTS (SELECT FROM pg_roles WHERE rolname = 'failover_drill') THEN
    PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'failover_drill';
    DROP SCHEMA IF EXISTS failover_drill CASCADE;
    DROP OWNED BY failover_drill;
    DROP ROLE failover_drill;
  END IF;
END
$$;
SELECT NOT pg_is_in_recovery() AS leads;
