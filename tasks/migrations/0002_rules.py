"""Rules that only the database can keep: a task that has ended has no open hold, whoever wrote it."""

from django.db import migrations

RULE = """
CREATE FUNCTION tasks_hold_is_resolved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM wallet_hold WHERE id = NEW.hold_id AND status = 'open') THEN
    RAISE EXCEPTION 'task % has ended with an open hold', NEW.id USING ERRCODE = '23514';
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER tasks_terminal_has_no_open_hold
  AFTER INSERT OR UPDATE OF status ON tasks_task DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW WHEN (NEW.finished_at IS NOT NULL AND NEW.hold_id IS NOT NULL)
  EXECUTE FUNCTION tasks_hold_is_resolved();
-- Status rewrites stay on their page.
ALTER TABLE tasks_task SET (fillfactor = 80);
ALTER TABLE tasks_attempt SET (fillfactor = 80);
"""
UNDO = """
DROP TRIGGER tasks_terminal_has_no_open_hold ON tasks_task;
DROP FUNCTION tasks_hold_is_resolved();
ALTER TABLE tasks_task RESET (fillfactor);
ALTER TABLE tasks_attempt RESET (fillfactor);
"""


class Migration(migrations.Migration):
    dependencies = [("tasks", "0001_initial"), ("wallet", "0001_initial")]
    operations = [migrations.RunSQL(RULE, UNDO)]
