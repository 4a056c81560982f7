-- How a standby streams, as its primary sees it.
SELECT
    replication.state,
    replication.sync_state,
    ssl.version AS tls,
    slot.slot_name AS slot,
    slot.wal_status,
    pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), replication.replay_lsn)::bigint AS lag
FROM pg_catalog.pg_stat_replication AS replication
JOIN pg_catalog.pg_stat_ssl AS ssl USING (pid)
LEFT JOIN pg_catalog.pg_replication_slots AS slot ON slot.active_pid = replication.pid
WHERE replication.application_name = %(name)s AND replication.state IN ('catchup', 'streaming')
