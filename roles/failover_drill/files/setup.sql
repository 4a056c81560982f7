-- What the drill's clients use. It goes when the drill has ended.
CREATE SCHEMA failover_drill;
CREATE TABLE failover_drill.written (fault text, number bigint, PRIMARY KEY (fault, number));
CREATE FUNCTION failover_drill.streaming() RETURNS text[]
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $$ SELECT coalesce(array_agg(DISTINCT application_name::text), '{}') FROM pg_stat_replication WHERE state = 'streaming' $$;
REVOKE ALL ON FUNCTION failover_drill.streaming() FROM PUBLIC;
GRANT USAGE ON SCHEMA failover_drill TO failover_drill;
GRANT SELECT, INSERT ON failover_drill.written TO failover_drill;
GRANT EXECUTE ON FUNCTION failover_drill.streaming() TO failover_drill;
DO $$ BEGIN EXECUTE format('GRANT CONNECT ON DATABASE %I TO failover_drill', current_database()); END $$;
