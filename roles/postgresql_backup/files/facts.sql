-- What the role has to know of the server before it changes anything.
SELECT
    current_setting('server_version_num')::integer / 10000 AS version,
    current_setting('config_file') AS config_file,
    current_setting('data_directory') AS data_directory,
    current_setting('wal_level') AS wal_level,
    current_setting('ssl_key_file') AS ssl_key_file,
    pg_catalog.pg_is_in_recovery() AS standby,
    -- While archive_mode is off, the server shows no archive_command: the files do.
    ARRAY(
        SELECT setting || ' (' || sourcefile || ')' FROM pg_catalog.pg_file_settings
        WHERE name IN ('archive_command', 'archive_library') AND setting <> '' AND setting NOT LIKE '%/auditdb-backup %'
    ) AS other_archivers,
    EXISTS (
        SELECT FROM pg_catalog.pg_hba_file_rules
        WHERE type = 'local' AND 'replication' = ANY (database) AND user_name && ARRAY['all', current_user::text]
    ) AS replication,
    EXISTS (
        SELECT FROM pg_catalog.pg_hba_file_rules
        WHERE type IN ('host', 'hostssl') AND 'replication' = ANY (database) AND user_name && ARRAY['all', 'auditdb_backup']
    ) AS remote_replication,
    coalesce((
        SELECT auth_method IN ('scram-sha-256', 'md5', 'password') FROM pg_catalog.pg_hba_file_rules
        WHERE type = 'local' AND database && ARRAY['all', 'postgres'] AND user_name && ARRAY['all', 'auditdb_backup']
        ORDER BY line_number LIMIT 1
    ), false) AS local_password
