-- Never removes a trace. row_security = off makes a policy that hides rows an error.
SET LOCAL row_security = off;
LOCK TABLE audit.partition_history IN ACCESS EXCLUSIVE MODE;

DO $$
BEGIN
    IF EXISTS (SELECT FROM audit.partition_history WHERE action IN ('copy', 'move')) THEN
        RAISE EXCEPTION 'audit.partition_history tells of copies and moves: what it allows is not taken back'
            USING HINT = 'Keep the migration: the traces are evidence of which archives hold rows.';
    END IF;
END
$$;

ALTER TABLE audit.partition_history
    DROP CONSTRAINT partition_history_action_check,
    ADD CONSTRAINT partition_history_action_check CHECK (action IN ('detach', 'drop', 'archive'));

COMMENT ON TABLE audit.partition_history IS 'Every partition that left its table, and where its rows are';
COMMENT ON COLUMN audit.partition_history.action IS
    'detach (stays as a table), drop, or archive (dropped once its archive was read back)';
COMMENT ON COLUMN audit.partition_history.left_at IS 'When it left';
