-- Whether the function is as this role makes it, and whose it is.
WITH account AS (
    SELECT oid FROM pg_catalog.pg_roles WHERE rolname = %(account)s
), space AS (
    SELECT n.oid, n.nspowner, n.nspacl FROM pg_catalog.pg_namespace AS n WHERE n.nspname = 'pgbouncer'
), function AS (
    SELECT p.* FROM pg_catalog.pg_proc AS p JOIN space ON space.oid = p.pronamespace WHERE p.proname = 'user_lookup'
), right_of AS (
    SELECT 'schema ' || a.privilege_type AS what, a.grantee, a.is_grantable
    FROM space, LATERAL pg_catalog.aclexplode(coalesce(space.nspacl, pg_catalog.acldefault('n', space.nspowner))) AS a
    WHERE a.grantee <> space.nspowner
    UNION ALL
    SELECT 'function ' || a.privilege_type, a.grantee, a.is_grantable
    FROM function, LATERAL pg_catalog.aclexplode(coalesce(function.proacl, pg_catalog.acldefault('f', function.proowner))) AS a
    WHERE a.grantee <> function.proowner
)
SELECT
    EXISTS (SELECT FROM account) AS account_exists,
    coalesce((SELECT pg_catalog.has_database_privilege(oid, current_database(), 'CONNECT') FROM account), true) AS connects,
    ARRAY(
        SELECT DISTINCT r.rolname::text FROM pg_catalog.pg_roles AS r
        WHERE NOT r.rolsuper AND (r.oid IN (SELECT nspowner FROM space) OR r.oid IN (SELECT proowner FROM function))
    ) AS strangers,
    (SELECT count(*) = 1 AND bool_and(
        prosrc = %(body)s AND prosecdef AND provolatile = 's' AND proargtypes = '25'::oidvector
        AND proallargtypes = ARRAY[25, 25, 25]::oid[]
        AND proconfig = ARRAY['search_path=pg_catalog, pg_temp']
        AND prolang = (SELECT oid FROM pg_catalog.pg_language WHERE lanname = 'sql')
    ) FROM function)
    AND ARRAY(SELECT what FROM right_of ORDER BY what) = ARRAY['function EXECUTE', 'schema USAGE']
    AND (SELECT bool_and(grantee IN (SELECT oid FROM account) AND NOT is_grantable) FROM right_of) AS same
