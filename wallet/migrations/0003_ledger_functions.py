"""The three functions that move credits. Their callers are in wallet/ledger.py, and nowhere else.

They are functions so that a movement, with the events that tell of it, is one round trip whose plans
are cached: nothing holds a wallet's lock while a client thinks. Each writes everything or raises.
`enable_seqscan = off`: every row is reached by its key, whatever the statistics of a young or
fast-growing table say.
"""

from django.db import migrations

FUNCTIONS = """
CREATE TYPE wallet_posted AS (
  id uuid, kind text, account_id uuid, hold_id uuid, task_id uuid, batch_id uuid,
  available_change bigint, held_change bigint,   -- of this line
  available bigint, held bigint,                 -- right after this line
  deposited bigint, charged bigint               -- totals of the account after all its lines
);

CREATE FUNCTION wallet_credits(micro bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT trim_scale(micro / 1000000.0)::text
$$;

-- One line for each element of the arrays: all paid in, all frozen, or all ended (charge and release). The lines of
-- an account stand together, accounts ascending: that is the order in which wallets are locked. One conditional
-- UPDATE per wallet decides; the first wallet that does not cover its lines is named in the error: needs, has.
CREATE FUNCTION wallet_post(
  kinds text[], ids uuid[], accounts uuid[], available_changes bigint[], held_changes bigint[], holds uuid[],
  tasks uuid[], batches uuid[], refs text[], idem text, reason text, actor text
) RETURNS SETOF wallet_posted LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
  lines int := coalesce(cardinality(ids), 0);
  sort text := kinds[1];
  first int := 1;
  last int;
  available_sum bigint;
  held_sum bigint;
  wallet wallet_wallet;
  availables bigint[] := '{}';
  helds bigint[] := '{}';
  seqs bigint[] := '{}';
  deposits bigint[] := '{}';
  charges bigint[] := '{}';
  at timestamptz;
BEGIN
  WHILE first <= lines LOOP
    available_sum := 0;
    held_sum := 0;
    last := first;
    LOOP
      available_sum := available_sum + available_changes[last];
      held_sum := held_sum + held_changes[last];
      EXIT WHEN last = lines OR accounts[last + 1] <> accounts[first];
      last := last + 1;
    END LOOP;
    UPDATE wallet_wallet AS w SET
      available = w.available + available_sum, held = w.held + held_sum,
      deposited = w.deposited + CASE sort WHEN 'deposit' THEN available_sum ELSE 0 END,
      charged = w.charged - CASE WHEN sort IN ('charge', 'release') THEN available_sum + held_sum ELSE 0 END,
      last_seq = w.last_seq + last - first + 1
    WHERE w.account_id = accounts[first] AND w.available + available_sum >= 0
    RETURNING w.* INTO wallet;
    IF NOT FOUND THEN
      SELECT w.* INTO wallet FROM wallet_wallet AS w WHERE w.account_id = accounts[first];
      RAISE EXCEPTION 'not enough credits' USING ERRCODE = 'check_violation', CONSTRAINT = 'wallet_not_covered',
        DETAIL = format('%s %s', -available_sum, coalesce(wallet.available, 0));
    END IF;
    FOR line IN REVERSE last..first LOOP
      availables[line] := wallet.available;
      helds[line] := wallet.held;
      seqs[line] := wallet.last_seq;
      deposits[line] := wallet.deposited;
      charges[line] := wallet.charged;
      wallet.available := wallet.available - available_changes[line];
      wallet.held := wallet.held - held_changes[line];
      wallet.last_seq := wallet.last_seq - 1;
    END LOOP;
    first := last + 1;
  END LOOP;

  at := clock_timestamp();  -- read under the locks: times never run against account_seq
  INSERT INTO wallet_journal (id, kind, hold_id, idem, reason, reference, actor, task_id, batch_id, created_at)
  SELECT line.id, line.kind, line.hold_id, idem, reason, line.reference, actor, line.task_id, line.batch_id, at
  FROM unnest(ids, kinds, holds, tasks, batches, refs) AS line(id, kind, hold_id, task_id, batch_id, reference);
  INSERT INTO wallet_entry (journal_id, account_id, platform, account_seq, available_change, held_change,
    available_after, held_after, created_at)
  SELECT line.id, line.account_id, '', line.seq, line.available, line.held, line.available_after, line.held_after, at
  FROM unnest(ids, accounts, seqs, available_changes, held_changes, availables, helds)
    AS line(id, account_id, seq, available, held, available_after, held_after);
  IF sort <> 'hold' THEN
    INSERT INTO wallet_entry (journal_id, platform, available_change, held_change, created_at)
    SELECT line.id, CASE line.kind WHEN 'charge' THEN 'revenue' ELSE 'funding' END, -(line.available + line.held), 0, at
    FROM unnest(ids, kinds, available_changes, held_changes) AS line(id, kind, available, held)
    WHERE line.available + line.held <> 0;
  END IF;
  INSERT INTO events_event (account_id, type, data, at, task_id, batch_id)
  SELECT line.account_id,
    CASE line.kind WHEN 'hold' THEN 'wallet.held' WHEN 'charge' THEN 'wallet.charged' WHEN 'release' THEN 'wallet.released'
      WHEN 'deposit' THEN 'wallet.deposited' ELSE 'wallet.adjusted' END,
    CASE WHEN line.hold_id IS NULL THEN jsonb_build_object('amount', wallet_credits(line.available),
      'available', wallet_credits(line.available_after), 'reason', reason)
    ELSE jsonb_build_object('hold_id', line.hold_id, 'task_id', line.task_id,
      'amount', wallet_credits(CASE line.kind WHEN 'hold' THEN line.held WHEN 'charge' THEN -(line.available + line.held)
        ELSE line.available END),
      'available', wallet_credits(line.available_after), 'held', wallet_credits(line.held_after)) END,
    now(), line.task_id, line.batch_id
  FROM unnest(kinds, accounts, holds, tasks, batches, available_changes, held_changes, availables, helds)
    AS line(kind, account_id, hold_id, task_id, batch_id, available, held, available_after, held_after);
  RETURN QUERY
  SELECT * FROM unnest(ids, kinds, accounts, holds, tasks, batches, available_changes, held_changes, availables, helds,
    deposits, charges);
END $$;

-- As wallet_post, each line with the hold it makes, of `held` micro-credits.
CREATE FUNCTION wallet_freeze(
  ids uuid[], accounts uuid[], available_changes bigint[], held_changes bigint[], holds uuid[],
  tasks uuid[], batches uuid[], refs text[], expires timestamptz[]
) RETURNS SETOF wallet_posted LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO wallet_hold (id, account_id, task_id, batch_id, amount, reference, expires_at, status, charged, created_at)
  SELECT hold.id, hold.account_id, hold.task_id, hold.batch_id, hold.amount, hold.reference, hold.expires_at,
    'open', 0, now()
  FROM unnest(holds, accounts, tasks, batches, held_changes, refs, expires)
    AS hold(id, account_id, task_id, batch_id, amount, reference, expires_at);
  RETURN QUERY SELECT * FROM wallet_post(array_fill('hold'::text, ARRAY[cardinality(ids)]), ids, accounts, available_changes, held_changes, holds, tasks,
    batches, refs, '', '', '');
END $$;

-- End holds, all of which must be open: charged, or released where the charge is null.
CREATE FUNCTION wallet_settle(ids uuid[], holds uuid[], charges bigint[], reason text)
RETURNS SETOF wallet_posted LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
  ended record;
BEGIN
  PERFORM 1 FROM wallet_hold AS hold WHERE hold.id = ANY (holds) ORDER BY hold.id FOR UPDATE;
  WITH ended AS (
    UPDATE wallet_hold AS hold SET resolved_at = now(), charged = coalesce(new.charge, 0),
      status = CASE WHEN new.charge IS NULL THEN 'released' ELSE 'confirmed' END
    FROM unnest(ids, holds, charges) WITH ORDINALITY AS new(line, hold, charge, place)
    WHERE hold.id = new.hold AND hold.status = 'open'
    RETURNING new.line, new.place, CASE WHEN new.charge IS NULL THEN 'release' ELSE 'charge' END AS kind, hold.*
  )
  SELECT array_agg(kind ORDER BY account_id, place) AS kinds, array_agg(line ORDER BY account_id, place) AS ids,
    array_agg(account_id ORDER BY account_id, place) AS accounts,
    array_agg(amount - charged ORDER BY account_id, place) AS available,
    array_agg(-amount ORDER BY account_id, place) AS held, array_agg(id ORDER BY account_id, place) AS holds,
    array_agg(task_id ORDER BY account_id, place) AS tasks, array_agg(batch_id ORDER BY account_id, place) AS batches,
    array_agg(reference ORDER BY account_id, place) AS refs
  INTO ended FROM ended;
  IF cardinality(ended.ids) IS DISTINCT FROM cardinality(holds) THEN
    RAISE EXCEPTION 'a hold is not open' USING ERRCODE = 'unique_violation', CONSTRAINT = 'hold_not_open';
  END IF;
  RETURN QUERY SELECT * FROM wallet_post(ended.kinds, ended.ids, ended.accounts, ended.available, ended.held,
    ended.holds, ended.tasks, ended.batches, ended.refs, '', reason, '');
END $$;
"""

UNDO = """
DROP FUNCTION wallet_settle(uuid[], uuid[], bigint[], text);
DROP FUNCTION wallet_freeze(uuid[], uuid[], bigint[], bigint[], uuid[], uuid[], uuid[], text[], timestamptz[]);
DROP FUNCTION wallet_post(text[], uuid[], uuid[], bigint[], bigint[], uuid[], uuid[], uuid[], text[], text, text, text);
DROP FUNCTION wallet_credits(bigint);
DROP TYPE wallet_posted;
"""


class Migration(migrations.Migration):
    dependencies = [("wallet", "0002_ledger_rules"), ("events", "0001_initial")]
    operations = [migrations.RunSQL(FUNCTIONS, UNDO)]
