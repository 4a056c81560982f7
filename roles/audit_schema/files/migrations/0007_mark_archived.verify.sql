DO $$
DECLARE
    function CONSTANT regprocedure :=
        to_regprocedure('audit.mark_archived(timestamp with time zone, timestamp with time zone)');
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_catalog.pg_proc AS p
        WHERE p.oid = function AND p.prosecdef AND p.proconfig = ARRAY['search_path=pg_catalog, pg_temp']
    ) THEN
        RAISE EXCEPTION 'audit.mark_archived is missing, or is not SECURITY DEFINER with a fixed search_path';
    END IF;
    IF EXISTS (
        SELECT FROM pg_catalog.pg_proc AS p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS acl
        WHERE p.oid = function AND acl.grantee = 0
    ) THEN
        RAISE EXCEPTION 'everybody (PUBLIC) may execute audit.mark_archived';
    END IF;
END
$$;
