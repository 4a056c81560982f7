-- Never removes what others wrote: refused while there is a row.
SET LOCAL row_security = off;
LOCK TABLE audit.report_executions, audit.scheduled_reports IN ACCESS EXCLUSIVE MODE;

DO $$
BEGIN
    IF EXISTS (SELECT FROM audit.report_executions) OR EXISTS (SELECT FROM audit.scheduled_reports) THEN
        RAISE EXCEPTION 'audit.scheduled_reports or audit.report_executions holds rows: they are not dropped'
            USING HINT = 'Save and delete those rows first.';
    END IF;
END
$$;

DROP TABLE audit.report_executions, audit.scheduled_reports;
