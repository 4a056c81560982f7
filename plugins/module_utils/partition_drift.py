# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The questions of what partitions have and their table has not, and the other way round."""

from __future__ import annotations

# One row for each difference between a partition and its table. Columns are compared by name: numbers may differ.
# Of their options, n_distinct and n_distinct_inherited are what people set; servers note others there for themselves.
DRIFT = """
WITH parent AS (SELECT c.* , c.oid AS id FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass(%(table)s)),
parts AS (SELECT k.*, k.oid AS id, n.nspname FROM parent JOIN pg_catalog.pg_inherits i ON i.inhparent = parent.id
    JOIN pg_catalog.pg_class k ON k.oid = i.inhrelid AND k.relkind IN ('r', 'p') AND NOT i.inhdetachpending
    JOIN pg_catalog.pg_namespace n ON n.oid = k.relnamespace),
policies AS (SELECT p.polrelid, pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('name', p.polname,
        'permissive', p.polpermissive, 'command', p.polcmd::text,
        'roles', ARRAY(SELECT CASE WHEN r.oid = 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(r.oid)::text END
            FROM unnest(p.polroles) AS r (oid) ORDER BY 1),
        'condition', pg_catalog.pg_get_expr(p.polqual, p.polrelid),
        'checked', pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)) ORDER BY p.polname) AS list
    FROM pg_catalog.pg_policy p WHERE p.polrelid IN (SELECT id FROM parent UNION ALL SELECT id FROM parts) GROUP BY 1),
ours AS (SELECT a.* FROM parent JOIN pg_catalog.pg_attribute a ON a.attrelid = parent.id AND a.attnum > 0
    AND NOT a.attisdropped),
attrs AS MATERIALIZED (SELECT k.id, k.nspname, k.relname, a.attacl, p.attname,
    p.attstattarget AS statistics, p.attstorage AS storage, p.attcompression AS compression, p.attoptions AS options,
    a.attstattarget, a.attstorage, a.attcompression, a.attoptions
    FROM parts k JOIN pg_catalog.pg_attribute a ON a.attrelid = k.id AND a.attnum > 0 JOIN ours p USING (attname)
    WHERE a.attacl IS NOT NULL OR a.attstorage <> p.attstorage OR a.attcompression <> p.attcompression
        OR coalesce(a.attstattarget, -1) <> coalesce(p.attstattarget, -1)
        OR cardinality(a.attoptions) > 1 OR a.attoptions[1] LIKE 'n_distinct%%'
        OR cardinality(p.attoptions) > 1 OR p.attoptions[1] LIKE 'n_distinct%%'),
described AS (SELECT objoid, pg_catalog.array_agg(description ORDER BY objsubid) AS list
    FROM pg_catalog.pg_description WHERE classoid = 'pg_catalog.pg_class'::regclass AND objsubid > 0
    AND objoid IN (SELECT id FROM parent UNION ALL SELECT id FROM parts) GROUP BY 1),
undescribed AS (SELECT k.* FROM parts k LEFT JOIN described d ON d.objoid = k.id
    WHERE d.list IS DISTINCT FROM (SELECT list FROM described JOIN parent ON objoid = parent.id)),
keys AS (SELECT indexrelid FROM pg_catalog.pg_index JOIN parent ON indrelid = parent.id AND indisreplident)
SELECT k.nspname AS schema, k.relname AS name, d.what, d.is AS is, d.wanted
FROM parent, parts k, LATERAL (
    SELECT 'owner' AS what, pg_catalog.to_jsonb(pg_catalog.pg_get_userbyid(k.relowner)) AS is,
        pg_catalog.to_jsonb(pg_catalog.pg_get_userbyid(parent.relowner)) AS wanted WHERE k.relowner <> parent.relowner
    UNION ALL
    SELECT 'access', pg_catalog.jsonb_agg(DISTINCT CASE WHEN x.grantee = 0 THEN NULL
            ELSE pg_catalog.pg_get_userbyid(x.grantee)::text END), NULL
    FROM (SELECT k.relacl AS acl UNION ALL SELECT attacl FROM attrs
            WHERE attrs.id = k.id AND attacl IS NOT NULL) AS acls, pg_catalog.aclexplode(acls.acl) x
    WHERE x.grantee NOT IN (k.relowner, parent.relowner) HAVING count(*) > 0
    UNION ALL
    SELECT 'row_security', pg_catalog.to_jsonb(k.relrowsecurity), pg_catalog.to_jsonb(parent.relrowsecurity)
    WHERE k.relrowsecurity <> parent.relrowsecurity
    UNION ALL
    SELECT 'forced_row_security', pg_catalog.to_jsonb(k.relforcerowsecurity),
        pg_catalog.to_jsonb(parent.relforcerowsecurity) WHERE k.relforcerowsecurity <> parent.relforcerowsecurity
    UNION ALL
    SELECT 'policies', coalesce(has.list, '[]'), coalesce(should.list, '[]')
    FROM (SELECT (SELECT list FROM policies WHERE polrelid = k.id) AS list) AS has,
        (SELECT (SELECT list FROM policies WHERE polrelid = parent.id) AS list) AS should
    WHERE has.list IS DISTINCT FROM should.list
    UNION ALL
    SELECT 'replica_identity', pg_catalog.to_jsonb(k.relreplident::text), pg_catalog.to_jsonb(parent.relreplident::text)
    WHERE k.relreplident <> parent.relreplident AND parent.relreplident <> 'i'
    UNION ALL
    SELECT 'replica_index', NULL, pg_catalog.to_jsonb(x.relname)
    FROM keys JOIN pg_catalog.pg_inherits h ON h.inhparent = keys.indexrelid
    JOIN pg_catalog.pg_index own ON own.indexrelid = h.inhrelid AND own.indrelid = k.id AND NOT own.indisreplident
    JOIN pg_catalog.pg_class x ON x.oid = own.indexrelid WHERE parent.relreplident = 'i'
    UNION ALL
    SELECT 'trigger', pg_catalog.to_jsonb(t.tgenabled::text),
        pg_catalog.jsonb_build_object('name', t.tgname, 'enabled', p.tgenabled::text)
    FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_trigger p ON p.oid = t.tgparentid
    WHERE t.tgrelid = k.id AND NOT t.tgisinternal AND t.tgenabled <> p.tgenabled
) AS d
UNION ALL
SELECT nspname, relname, 'column', NULL, pg_catalog.jsonb_build_object('name', attname,
    'statistics', CASE WHEN coalesce(statistics, -1) <> coalesce(attstattarget, -1) THEN coalesce(statistics, -1) END,
    'storage', CASE WHEN storage <> attstorage THEN storage::text END,
    'compression', CASE WHEN compression <> attcompression THEN compression::text END,
    'options', (SELECT pg_catalog.jsonb_agg(o) FROM unnest(options) AS o WHERE o LIKE 'n_distinct%%'
        AND NOT o = ANY (coalesce(attoptions, '{}'))),
    'unset', ARRAY(SELECT split_part(o, '=', 1) FROM unnest(attoptions) AS o WHERE o LIKE 'n_distinct%%'
        AND split_part(o, '=', 1) NOT IN (SELECT split_part(w, '=', 1) FROM unnest(options) AS w)))
FROM attrs
WHERE (coalesce(statistics, -1), storage, compression) <> (coalesce(attstattarget, -1), attstorage, attcompression)
    OR ARRAY(SELECT o FROM unnest(options) AS o WHERE o LIKE 'n_distinct%%' ORDER BY 1)
        <> ARRAY(SELECT o FROM unnest(attoptions) AS o WHERE o LIKE 'n_distinct%%' ORDER BY 1)
UNION ALL
SELECT k.nspname, k.relname, 'comment', NULL,
    pg_catalog.jsonb_build_object('name', p.attname, 'comment', should.description)
FROM undescribed k JOIN ours p ON true JOIN pg_catalog.pg_attribute a ON a.attrelid = k.id AND a.attname = p.attname
LEFT JOIN pg_catalog.pg_description should ON should.objoid = p.attrelid AND should.objsubid = p.attnum
    AND should.classoid = 'pg_catalog.pg_class'::regclass
LEFT JOIN pg_catalog.pg_description has ON has.objoid = k.id AND has.objsubid = a.attnum
    AND has.classoid = 'pg_catalog.pg_class'::regclass
WHERE should.description IS DISTINCT FROM has.description
UNION ALL
SELECT k.nspname, k.relname, 'storage', pg_catalog.to_jsonb(coalesce(k.reloptions, '{}')
    || CASE WHEN k.reltoastrelid = 0 THEN '{toast=none}' ELSE ARRAY(SELECT 'toast.' || o
        FROM pg_catalog.pg_class t, unnest(t.reloptions) AS o WHERE t.oid = k.reltoastrelid) END), NULL
FROM parts k WHERE %(storage)s AND k.relkind = 'r'
ORDER BY 1, 2, 3
"""
# What a table that was just made lacks. LIKE copies comments, PARTITION OF does not.
NEW = """
WITH c AS (SELECT *, oid AS id FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass(%s))
SELECT 'row_security' AS what, 'false'::jsonb AS is, 'true'::jsonb AS wanted FROM c WHERE relrowsecurity
UNION ALL SELECT 'forced_row_security', 'false', 'true' FROM c WHERE relforcerowsecurity
UNION ALL SELECT 'policies', '[]', pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('name', p.polname,
        'permissive', p.polpermissive, 'command', p.polcmd::text,
        'roles', ARRAY(SELECT CASE WHEN r.oid = 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(r.oid)::text END
            FROM unnest(p.polroles) AS r (oid) ORDER BY 1),
        'condition', pg_catalog.pg_get_expr(p.polqual, p.polrelid),
        'checked', pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)) ORDER BY p.polname)
    FROM c JOIN pg_catalog.pg_policy p ON p.polrelid = c.id HAVING count(*) > 0
UNION ALL SELECT 'replica_identity', NULL, pg_catalog.to_jsonb(relreplident::text) FROM c
    WHERE relreplident IN ('f', 'n')
UNION ALL SELECT 'column', NULL, pg_catalog.jsonb_build_object('name', attname,
        'statistics', NULLIF(coalesce(attstattarget, -1), -1), 'storage', NULL, 'compression', NULL,
        'options', (SELECT pg_catalog.jsonb_agg(o) FROM unnest(attoptions) AS o WHERE o LIKE 'n_distinct%%'),
        'unset', '{}'::text[])
    FROM c JOIN pg_catalog.pg_attribute ON attrelid = c.id AND attnum > 0 AND NOT attisdropped
    WHERE coalesce(attstattarget, -1) <> -1 OR array_to_string(attoptions, ',') ~ '(^|,)n_distinct'
UNION ALL SELECT 'comment', NULL, pg_catalog.jsonb_build_object('name', a.attname, 'comment', d.description)
    FROM c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.id AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_catalog.pg_description d ON d.objoid = c.id AND d.objsubid = a.attnum
        AND d.classoid = 'pg_catalog.pg_class'::regclass
"""
