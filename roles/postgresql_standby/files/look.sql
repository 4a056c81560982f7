-- What a server is: a primary or a standby, of which cluster, on which timeline, and where its WAL comes from.
SELECT
    pg_catalog.pg_is_in_recovery() AS standby,
    (SELECT system_identifier::text FROM pg_catalog.pg_control_system()) AS identifier,
    CASE WHEN pg_catalog.pg_is_in_recovery()
        THEN greatest(receiver.received_tli, (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()))
        ELSE ('x' || pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8))::bit(32)::integer
    END AS timeline,
    coalesce(CASE WHEN receiver.status = 'streaming' THEN receiver.sender_host END, '') AS upstream
FROM (SELECT) AS always LEFT JOIN pg_catalog.pg_stat_wal_receiver AS receiver ON true
