-- Which of these roles have no business behind Pgpool, and why.
SELECT ARRAY(
    SELECT u.name || CASE
        WHEN r.rolname IS NULL THEN ' is no role of the server'
        ELSE ' is a superuser, or a member of one, or does replication'
    END
    FROM string_to_table(%(users)s, ',') AS u (name)
    LEFT JOIN pg_catalog.pg_roles AS r ON r.rolname = u.name
    WHERE r.rolname IS NULL OR r.rolsuper OR r.rolreplication
        OR EXISTS (SELECT FROM pg_catalog.pg_roles AS s WHERE s.rolsuper AND pg_catalog.pg_has_role(r.oid, s.oid, 'MEMBER'))
    ORDER BY u.name
) AS wrong
