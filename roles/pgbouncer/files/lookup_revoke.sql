DO $$
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT DISTINCT 'SCHEMA pgbouncer' AS object, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS grantee
        FROM pg_catalog.pg_namespace AS n, LATERAL pg_catalog.aclexplode(n.nspacl) AS a
        WHERE n.nspname = 'pgbouncer' AND a.grantee <> n.nspowner
        UNION ALL
        SELECT DISTINCT 'FUNCTION pgbouncer.user_lookup(text)', CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END
        FROM pg_catalog.pg_proc AS p,
            LATERAL pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) AS a
        WHERE p.oid = 'pgbouncer.user_lookup(text)'::regprocedure AND a.grantee <> p.proowner
    LOOP
        EXECUTE 'REVOKE ALL ON ' || one.object || ' FROM ' || one.grantee;
    END LOOP;
END
$$
