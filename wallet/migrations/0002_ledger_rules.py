"""What keeps the books straight whoever writes them: balanced, append-only, with room for hot updates."""

from django.db import migrations

RULES = """
ALTER TABLE wallet_wallet SET (fillfactor = 50);
ALTER TABLE wallet_hold SET (fillfactor = 80);

CREATE FUNCTION wallet_ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the ledger is append-only: % on %', TG_OP, TG_TABLE_NAME
    USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER wallet_journal_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet_journal
  FOR EACH STATEMENT EXECUTE FUNCTION wallet_ledger_is_append_only();
CREATE TRIGGER wallet_entry_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet_entry
  FOR EACH STATEMENT EXECUTE FUNCTION wallet_ledger_is_append_only();

CREATE FUNCTION wallet_journal_must_balance() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  journal uuid;
  total bigint;
BEGIN
  IF TG_TABLE_NAME = 'wallet_journal' THEN journal := NEW.id; ELSE journal := NEW.journal_id; END IF;
  SELECT sum(available_change + held_change) INTO total FROM wallet_entry WHERE journal_id = journal;
  IF total IS DISTINCT FROM 0 THEN
    RAISE EXCEPTION 'journal % does not balance: %', journal, coalesce(total::text, 'no entries')
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$;
-- On both tables: a journal without legs is wrong, and so is a leg added to a balanced journal.
CREATE CONSTRAINT TRIGGER wallet_journal_balanced AFTER INSERT ON wallet_journal
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wallet_journal_must_balance();
CREATE CONSTRAINT TRIGGER wallet_entry_balanced AFTER INSERT ON wallet_entry
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wallet_journal_must_balance();
"""

UNDO = """
DROP TRIGGER wallet_entry_balanced ON wallet_entry;
DROP TRIGGER wallet_journal_balanced ON wallet_journal;
DROP TRIGGER wallet_entry_append_only ON wallet_entry;
DROP TRIGGER wallet_journal_append_only ON wallet_journal;
DROP FUNCTION wallet_journal_must_balance();
DROP FUNCTION wallet_ledger_is_append_only();
ALTER TABLE wallet_hold RESET (fillfactor);
ALTER TABLE wallet_wallet RESET (fillfactor);
"""


class Migration(migrations.Migration):
    dependencies = [("wallet", "0001_initial")]
    operations = [migrations.RunSQL(RULES, UNDO)]
