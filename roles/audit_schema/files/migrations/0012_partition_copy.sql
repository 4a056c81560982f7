-- audit.partition_history also tells of partitions that were copied into an archive and stay (module
-- postgresql_partition_copy), and of those that left, were archived and stay as tables elsewhere (retention_schema of
-- postgresql_partition). Every row before it is as the new rule wants it.

ALTER TABLE audit.partition_history
    DROP CONSTRAINT partition_history_action_check,
    ADD CONSTRAINT partition_history_action_check CHECK (action IN ('detach', 'drop', 'archive', 'move', 'copy'));

COMMENT ON TABLE audit.partition_history IS
    'Every partition that left its table or was copied into an archive, and where its rows are';
COMMENT ON COLUMN audit.partition_history.action IS
    'detach (stays as a table), drop, archive (dropped once its archive was read back), move (stays as a table, archived), '
    'or copy (archived, and stays a partition)';
COMMENT ON COLUMN audit.partition_history.left_at IS 'When it left; of a copy, when it was begun';
