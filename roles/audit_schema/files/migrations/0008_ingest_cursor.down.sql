-- Refused while there is a row: a loader that lost its position would write every event a second time.
SET LOCAL row_security = off;
LOCK TABLE audit.ingest_cursor IN ACCESS EXCLUSIVE MODE;

DO $$
BEGIN
    IF EXISTS (SELECT FROM audit.ingest_cursor) THEN
        RAISE EXCEPTION 'audit.ingest_cursor holds positions: it is not dropped'
            USING HINT = 'Delete them first, if the events of those sources are gone too.';
    END IF;
END
$$;

DROP TABLE audit.ingest_cursor;
