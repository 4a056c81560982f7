-- What the role has to know of the server before it changes anything.
SELECT
    pg_catalog.pg_is_in_recovery() AS standby,
    current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer AS connections
