"""The three functions that move credits. Their callers are in wallet/ledger.py, and nowhere else.

They are functions so that a movement is one round trip whose plan is cached: nothing holds a wallet's
lock while a client thinks. `enable_seqscan = off`: every row is reached by its key, whatever the
statistics of a young or fast-growing table say.
"""

from django.db import migrations

FUNCTIONS = """
CREATE TYPE wallet_posted AS (
  id uuid, kind text, account_id uuid, hold_id uuid, task_id uuid, batch_id uuid,
  available_change bigint, held_change bigint,   -- of this line
  available bigint, held bigint,                 -- right after this line
  deposited bigint, charged bigint               -- totals of the account after all lines
);

-- Lines: [{id, kind, account_id, available, held, hold_id?, task_id?, batch_id?, idem?, reason?, reference?, actor?}].
-- One conditional UPDATE per wallet decides; lines of a wallet that does not cover all of its lines are left out.
CREATE FUNCTION wallet_post(lines json) RETURNS SETOF wallet_posted
LANGUAGE plpgsql SET enable_seqscan = off AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH line AS MATERIALIZED (
    SELECT * FROM ROWS FROM (
      json_to_recordset(lines) AS (id uuid, kind text, account_id uuid, available bigint, held bigint, hold_id uuid,
        task_id uuid, batch_id uuid, idem text, reason text, reference text, actor text)
    ) WITH ORDINALITY AS line(id, kind, account_id, available, held, hold_id,
        task_id, batch_id, idem, reason, reference, actor, place)
  ), total AS MATERIALIZED (
    SELECT account_id, sum(available)::bigint AS available, sum(held)::bigint AS held, count(*) AS lines,
      coalesce(sum(available) FILTER (WHERE kind = 'deposit'), 0)::bigint AS deposited,
      coalesce(-sum(available + held) FILTER (WHERE kind = 'charge'), 0)::bigint AS charged
    FROM line GROUP BY account_id
  ), locked AS MATERIALIZED (
    SELECT account_id FROM wallet_wallet WHERE account_id IN (SELECT account_id FROM total)
    ORDER BY account_id FOR UPDATE
  ), wallet AS (
    UPDATE wallet_wallet AS w SET
      available = w.available + total.available, held = w.held + total.held,
      deposited = w.deposited + total.deposited, charged = w.charged + total.charged,
      last_seq = w.last_seq + total.lines
    FROM total JOIN locked USING (account_id)
    WHERE w.account_id = total.account_id AND w.available + total.available >= 0
    -- The clock is read under the lock, so that times never run against account_seq.
    RETURNING w.*, clock_timestamp() AS at
  ), chained AS MATERIALIZED (
    SELECT line.*, wallet.deposited, wallet.charged, wallet.at,
      wallet.last_seq - count(*) OVER later AS seq,
      wallet.available - coalesce(sum(line.available) OVER later, 0)::bigint AS available_after,
      wallet.held - coalesce(sum(line.held) OVER later, 0)::bigint AS held_after
    FROM line JOIN wallet USING (account_id)
    WINDOW later AS (PARTITION BY account_id ORDER BY place DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
  ), journal AS (
    INSERT INTO wallet_journal (id, kind, hold_id, idem, reason, reference, actor, task_id, batch_id, created_at)
    SELECT id, kind, hold_id, coalesce(idem, ''), coalesce(reason, ''), coalesce(reference, ''), coalesce(actor, ''),
      task_id, batch_id, at
    FROM chained ORDER BY place
  ), entry AS (
    INSERT INTO wallet_entry (journal_id, account_id, platform, account_seq, available_change, held_change,
      available_after, held_after, created_at)
    SELECT * FROM (
      SELECT id, account_id, '', seq, available, held, available_after, held_after, at FROM chained ORDER BY place
    ) AS customer
    UNION ALL
    SELECT id, NULL, CASE kind WHEN 'charge' THEN 'revenue' ELSE 'funding' END, NULL, -(available + held), 0,
      NULL, NULL, at
    FROM chained WHERE available + held <> 0
  )
  SELECT id, kind, account_id, hold_id, task_id, batch_id, available, held, available_after, held_after,
    deposited, charged
  FROM chained ORDER BY place;
END $$;

-- Lines as above, each of a hold to be made: its amount is `held`; reference and expires_at go with it.
CREATE FUNCTION wallet_freeze(lines json) RETURNS SETOF wallet_posted LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO wallet_hold (id, account_id, task_id, batch_id, amount, reference, expires_at, status, charged, created_at)
  SELECT hold_id, account_id, task_id, batch_id, held, coalesce(reference, ''), expires_at, 'open', 0, now()
  FROM json_to_recordset(lines) AS hold(hold_id uuid, account_id uuid, task_id uuid, batch_id uuid, held bigint,
    reference text, expires_at timestamptz);
  RETURN QUERY SELECT * FROM wallet_post(lines);
END $$;

-- Settlements: [{id, hold_id, charge}]; charge null releases. Holds that are not open are left out.
CREATE FUNCTION wallet_settle(settlements json, reason text) RETURNS SETOF wallet_posted
LANGUAGE plpgsql SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE lines json;
BEGIN
  WITH new AS MATERIALIZED (
    SELECT * FROM ROWS FROM (
      json_to_recordset(settlements) AS (id uuid, hold_id uuid, charge bigint)
    ) WITH ORDINALITY AS new(id, hold_id, charge, place)
  ), locked AS MATERIALIZED (
    SELECT id AS hold_id FROM wallet_hold WHERE id IN (SELECT hold_id FROM new) ORDER BY id FOR UPDATE
  ), ended AS (
    UPDATE wallet_hold AS hold SET resolved_at = now(), charged = coalesce(new.charge, 0),
      status = CASE WHEN new.charge IS NULL THEN 'released' ELSE 'confirmed' END
    FROM new JOIN locked USING (hold_id)
    WHERE hold.id = new.hold_id AND hold.status = 'open'
    RETURNING new.id, new.place, new.hold_id, new.charge, hold.account_id, hold.task_id, hold.batch_id,
      hold.reference, hold.amount
  )
  SELECT json_agg(json_build_object(
      'id', id, 'kind', CASE WHEN charge IS NULL THEN 'release' ELSE 'charge' END, 'account_id', account_id,
      'available', amount - coalesce(charge, 0), 'held', -amount, 'hold_id', hold_id, 'task_id', task_id,
      'batch_id', batch_id, 'reference', reference, 'reason', wallet_settle.reason) ORDER BY place)
  INTO lines FROM ended;
  RETURN QUERY SELECT * FROM wallet_post(lines);
END $$;
"""

UNDO = """
DROP FUNCTION wallet_settle(json, text);
DROP FUNCTION wallet_freeze(json);
DROP FUNCTION wallet_post(json);
DROP TYPE wallet_posted;
"""


class Migration(migrations.Migration):
    dependencies = [("wallet", "0002_ledger_rules")]
    operations = [migrations.RunSQL(FUNCTIONS, UNDO)]
