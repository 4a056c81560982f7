-- Everything that both playbooks declare, one line each, so that two hosts can be compared. The ledger of migrations
-- is left out: the plain playbook has none.
WITH relations AS (
    SELECT c.oid, c.relkind, c.relowner, c.relacl, c.relrowsecurity, c.relpartbound, n.nspname || '.' || c.relname AS name
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = 'audit' AND c.relname !~ '^schema_migration' AND c.relkind <> 'I' AND c.relkind <> 'i'
), acls AS (
    SELECT 'database' AS kind, current_database() AS name, coalesce(datacl, acldefault('d', datdba)) AS acl
    FROM pg_database
    WHERE datname = current_database()
    UNION ALL
    SELECT 'schema', nspname, coalesce(nspacl, acldefault('n', nspowner)) FROM pg_namespace WHERE nspname IN ('audit', 'public')
    UNION ALL
    SELECT 'relation', name, coalesce(relacl, acldefault((CASE relkind WHEN 'S' THEN 's' ELSE 'r' END)::"char", relowner))
    FROM relations
    WHERE relkind IN ('r', 'p', 'S', 'v')
    UNION ALL
    SELECT 'column', r.name || '.' || a.attname, a.attacl
    FROM relations AS r
    JOIN pg_attribute AS a ON a.attrelid = r.oid
    WHERE a.attacl IS NOT NULL
    UNION ALL
    SELECT 'function', p.oid::regprocedure::text, coalesce(p.proacl, acldefault('f', p.proowner))
    FROM pg_proc AS p
    WHERE p.pronamespace = to_regnamespace('audit') AND p.proname !~ '^schema_migration'
    UNION ALL
    SELECT 'default', concat_ws(' ', d.defaclrole::regrole, d.defaclobjtype, n.nspname), d.defaclacl
    FROM pg_default_acl AS d
    LEFT JOIN pg_namespace AS n ON n.oid = d.defaclnamespace
)
SELECT concat_ws(' | ', 'database', datname, pg_encoding_to_char(encoding), datcollate, datctype, datdba::regrole, s.setconfig)
FROM pg_database AS d
LEFT JOIN pg_db_role_setting AS s ON s.setdatabase = d.oid AND s.setrole = 0
WHERE datname = current_database()
UNION ALL
SELECT concat_ws(
    ' | ', 'role', rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls,
    rolconnlimit,
    (SELECT setconfig FROM pg_db_role_setting WHERE setrole = a.oid AND setdatabase = 0), rolpassword IS NOT NULL,
    shobj_description(a.oid, 'pg_authid')
)
FROM pg_authid AS a
WHERE rolname ~ '^audit_'
UNION ALL
SELECT concat_ws(' | ', 'member', m.member::regrole, m.roleid::regrole, m.admin_option) FROM pg_auth_members AS m
WHERE m.member::regrole::text ~ '^audit_'
UNION ALL
SELECT concat_ws(' | ', 'extension', extname, extnamespace::regnamespace) FROM pg_extension
UNION ALL
SELECT concat_ws(' | ', 'relation', name, relkind, relowner::regrole, relrowsecurity, pg_get_expr(relpartbound, oid))
FROM relations
UNION ALL
SELECT concat_ws(
    ' | ', 'column', r.name, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
    pg_get_expr(d.adbin, d.adrelid)
)
FROM relations AS r
JOIN pg_attribute AS a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped AND r.relkind IN ('r', 'p', 'v')
LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
UNION ALL
SELECT concat_ws(' | ', 'constraint', r.name, c.conname, pg_get_constraintdef(c.oid))
FROM relations AS r
JOIN pg_constraint AS c ON c.conrelid = r.oid
UNION ALL
SELECT concat_ws(' | ', 'index', r.name, pg_get_indexdef(i.indexrelid)) FROM relations AS r
JOIN pg_index AS i ON i.indrelid = r.oid
UNION ALL
SELECT concat_ws(' | ', 'trigger', r.name, pg_get_triggerdef(t.oid)) FROM relations AS r
JOIN pg_trigger AS t ON t.tgrelid = r.oid AND NOT t.tgisinternal
UNION ALL
SELECT concat_ws(' | ', 'function', p.oid::regprocedure, p.proowner::regrole, p.prosecdef, md5(p.prosrc)) FROM pg_proc AS p
WHERE p.pronamespace = to_regnamespace('audit') AND p.proname !~ '^schema_migration'
UNION ALL
SELECT concat_ws(
    ' | ', 'right', acls.kind, acls.name, CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE x.grantee::regrole::text END,
    x.privilege_type, x.is_grantable
)
FROM acls, LATERAL aclexplode(acls.acl) AS x
UNION ALL
SELECT concat_ws(' | ', 'policy', policy_name, retention_days, archive_after_days, delete_after_days, data_classification)
FROM audit.audit_retention_policy
ORDER BY 1;
