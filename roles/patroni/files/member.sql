-- What the server says of itself, whatever Patroni thinks of it.
SELECT
  pg_is_in_recovery() AS standby,
  CASE WHEN pg_is_in_recovery() THEN (SELECT received_tli FROM pg_stat_wal_receiver WHERE status = 'streaming')
       ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer END AS timeline,
  (SELECT coalesce(json_agg(application_name), '[]') FROM pg_stat_replication WHERE state = 'streaming') AS streaming,
  (SELECT coalesce(json_agg(name ORDER BY name), '[]') FROM pg_settings
   -- A standby that was promoted still has what ended its recovery, and needs it no more.
   WHERE pending_restart AND name NOT LIKE 'recovery\_target%') AS waiting
