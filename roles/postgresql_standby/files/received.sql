-- How much of its primary's WAL a standby has.
SELECT
    pg_catalog.pg_is_in_recovery() AS standby,
    (SELECT system_identifier::text FROM pg_catalog.pg_control_system()) AS identifier,
    greatest(pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn())::text AS received,
    pg_catalog.pg_wal_lsn_diff(
        greatest(pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn()), %(lsn)s::pg_lsn
    )::bigint AS more
