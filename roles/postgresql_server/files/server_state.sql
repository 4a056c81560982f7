-- What stands in the files and is not in force: settings that wait for a restart, files that wait for a reload, and errors.
-- pg_file_settings and pg_hba_file_rules read the files anew, so nothing has to be reloaded to ask.
WITH found AS (
    -- One that was taken out of the files has its name in the error alone.
    SELECT coalesce(name, substring(error FROM '^parameter "([^"]+)" cannot be changed without restarting')) AS name, setting, sourcefile,
        error, error = 'setting could not be applied' OR name IS NULL AND error LIKE 'parameter "%" cannot be changed without%' AS waiting
    FROM pg_catalog.pg_file_settings
), setting AS (
    SELECT f.name, f.setting, f.sourcefile, f.error, coalesce(s.context, '') = 'postmaster' AND f.waiting AS waits
    FROM found AS f
    LEFT JOIN pg_catalog.pg_settings AS s ON s.name = f.name
    -- A standby that was promoted still has those of its recovery, which are over.
    WHERE coalesce(f.name, '') NOT LIKE 'recovery\_target%' OR pg_catalog.pg_is_in_recovery()
), file AS (
    SELECT DISTINCT sourcefile AS path FROM setting WHERE sourcefile IS NOT NULL
    UNION SELECT pg_catalog.current_setting('hba_file')
    UNION SELECT pg_catalog.current_setting('ssl_cert_file')
    UNION SELECT pg_catalog.current_setting('ssl_ca_file')
)
SELECT
    ARRAY(SELECT DISTINCT name FROM setting WHERE waits ORDER BY name) AS restart,
    ARRAY(SELECT path FROM file WHERE path LIKE '/%' AND (pg_catalog.pg_stat_file(path, true)).modification > pg_catalog.pg_conf_load_time()) AS unread,
    ARRAY(SELECT coalesce(name, sourcefile, 'a file') || ' = ' || coalesce(setting, '') || ' (' || error || ')' FROM setting WHERE error IS NOT NULL AND NOT waits)
    || ARRAY(SELECT 'pg_hba.conf line ' || line_number || ' (' || error || ')' FROM pg_catalog.pg_hba_file_rules WHERE error IS NOT NULL)
    AS errors
