-- Whether the role's files wait to be read, and what commits wait for now.
SELECT
    EXISTS (
        SELECT FROM unnest(ARRAY[%(settings)s, %(names)s]) AS path
        WHERE (pg_catalog.pg_stat_file(path, true)).modification > pg_catalog.pg_conf_load_time()
    ) AS unread,
    pg_catalog.current_setting('synchronous_standby_names') AS names,
    ARRAY(
        SELECT application_name FROM pg_catalog.pg_stat_replication WHERE state = 'streaming'
    ) AS streaming,
    (SELECT count(*) FROM pg_catalog.pg_stat_replication WHERE sync_state IN ('sync', 'quorum')) AS synchronous
