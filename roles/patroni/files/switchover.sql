-- What would make a leader's stop last, or its clients wait for longer than they may.
SELECT
  (SELECT coalesce(json_agg(concat(pid, ' of ', usename, ' for ', extract(epoch FROM clock_timestamp() - xact_start)::integer, ' s')), '[]')
   FROM pg_catalog.pg_stat_activity
   WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
     AND clock_timestamp() - xact_start > %(patience)s * interval '1 second') AS transactions,
  -- Patroni and PostgreSQL wait for the archive at a stop.
  (SELECT last_failed_wal FROM pg_catalog.pg_stat_archiver
   WHERE last_failed_time > coalesce(last_archived_time, '-infinity')
     AND current_setting('archive_mode') <> 'off') AS unarchived
