-- Which settings of this role's file wait for a restart, and whether the file has been read.
SELECT
    ARRAY(
        SELECT f.name FROM pg_catalog.pg_file_settings AS f JOIN pg_catalog.pg_settings AS s ON s.name = f.name
        WHERE f.sourcefile = %(path)s AND s.context = 'postmaster' AND f.error = 'setting could not be applied'
        ORDER BY f.name
    ) AS restart,
    (pg_catalog.pg_stat_file(%(path)s)).modification > pg_catalog.pg_conf_load_time() AS unread
