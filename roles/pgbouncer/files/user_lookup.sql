
    SELECT r.rolname::text, r.rolpassword
    FROM pg_authid AS r
    WHERE r.rolname = wanted
      AND r.rolcanlogin AND NOT r.rolsuper AND NOT r.rolreplication
      AND r.rolname <> 'auditdb_pgbouncer'
      AND starts_with(r.rolpassword, 'SCRAM-SHA-256$')
      AND (r.rolvaliduntil IS NULL OR r.rolvaliduntil > now())
      AND NOT EXISTS (SELECT FROM pg_authid AS s WHERE s.rolsuper AND pg_has_role(r.oid, s.oid, 'MEMBER'))
