-- The server, the login, and the database if it is there.
SELECT current_setting('server_version_num')::int / 10000 AS version,
       pg_is_in_recovery() AS standby,
       current_user AS login,
       r.rolsuper OR r.rolcreaterole AS createrole,
       r.rolsuper OR r.rolcreatedb AS createdb,
       (SELECT json_build_object('encoding', pg_encoding_to_char(d.encoding), 'collate', d.datcollate,
                                 'ctype', d.datctype, 'owner', pg_get_userbyid(d.datdba))
        FROM pg_database d WHERE d.datname = %(database)s) AS database
FROM pg_roles r WHERE r.rolname = current_user
