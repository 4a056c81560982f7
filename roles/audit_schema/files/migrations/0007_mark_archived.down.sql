DROP FUNCTION audit.mark_archived(timestamp with time zone, timestamp with time zone);
