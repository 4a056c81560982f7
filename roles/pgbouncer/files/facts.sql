-- What the role has to know of the server before it changes anything.
SELECT
    pg_catalog.pg_is_in_recovery() AS standby,
    current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer AS connections,
    ARRAY(
        SELECT name FROM string_to_table(%(databases)s, ',') AS name
        WHERE name NOT IN (SELECT datname FROM pg_catalog.pg_database)
    ) AS missing
