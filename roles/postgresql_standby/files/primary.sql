-- What the role has to know of a primary before anything changes.
SELECT
    current_setting('wal_level') AS wal_level,
    pg_catalog.current_setting('max_wal_senders')::integer AS senders,
    ARRAY(SELECT spcname::text FROM pg_catalog.pg_tablespace WHERE spcname NOT LIKE 'pg\_%%') AS tablespaces,
    (SELECT sum(pg_catalog.pg_database_size(oid))::bigint FROM pg_catalog.pg_database) AS bytes,
    (SELECT wal_status FROM pg_catalog.pg_replication_slots WHERE slot_name = %(slot)s) AS wal_status,
    EXISTS (
        SELECT FROM pg_catalog.pg_hba_file_rules
        WHERE type IN ('host', 'hostssl') AND 'replication' = ANY (database) AND user_name && ARRAY['all', %(role)s]
            AND auth_method <> 'reject'
    ) AS replication,
    EXISTS (
        SELECT FROM pg_catalog.pg_hba_file_rules
        WHERE type IN ('host', 'hostssl') AND database && ARRAY['all', 'postgres'] AND user_name && ARRAY['all', %(role)s]
            AND auth_method <> 'reject'
    ) AS login
