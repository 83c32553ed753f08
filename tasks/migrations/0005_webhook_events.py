"""Events that carry their whole story in `data` get their deliveries where they are stored, whoever appends them.

Those of tasks and batches are told with the object as it is; `tasks.deliveries` writes them. Events without an owner
are for operators: only an endpoint that names them gets them.
"""

from django.db import migrations

RULE = r"""
CREATE FUNCTION tasks_uuid_v7() RETURNS uuid LANGUAGE sql VOLATILE AS $$
  SELECT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid()) PLACING
    substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6),
    52, 1), 53, 1), 'hex')::uuid
$$;
CREATE FUNCTION tasks_event_wanted(patterns varchar[], kind text, operators boolean) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
  SELECT EXISTS (SELECT 1 FROM unnest(patterns) AS p WHERE p = kind OR (p = '*' AND NOT operators)
    OR (p LIKE '%.*' AND starts_with(kind, left(p, -1))))
$$;
CREATE FUNCTION tasks_deliver_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO tasks_delivery (id, account_id, endpoint_id, url, host, style, event_id, event_type, task_id, batch_id,
    seq, status, attempts, error, body, tries, next_attempt_at, created_at, sending)
  SELECT tasks_uuid_v7(), w.account_id, w.id, w.url, w.host, 'native',
    rtrim(translate(replace(encode(convert_to(concat_ws('.', n.xid, n.id, n.floor,
      floor(extract(epoch FROM n.at))::bigint), 'UTF8'), 'base64'), E'\n', ''), '+/', '-_'), '='),
    n.type, n.task_id, n.batch_id, NULL, 'pending', 0, '', n.data, '[]', now(), n.at, false
  FROM added n CROSS JOIN LATERAL (
    SELECT * FROM tasks_webhookendpoint e WHERE e.enabled AND e.account_id = n.account_id
    UNION ALL SELECT * FROM tasks_webhookendpoint e WHERE e.enabled AND n.account_id IS NULL) AS w
  WHERE tasks_event_wanted(w.events, n.type, n.account_id IS NULL) AND n.type NOT LIKE 'task.%' AND n.type NOT LIKE 'batch.%';
  RETURN NULL;
END $$;
CREATE TRIGGER tasks_deliver_events AFTER INSERT ON events_event REFERENCING NEW TABLE AS added
  FOR EACH STATEMENT EXECUTE FUNCTION tasks_deliver_events();
"""
UNDO = """
DROP TRIGGER tasks_deliver_events ON events_event;
DROP FUNCTION tasks_deliver_events();
DROP FUNCTION tasks_event_wanted(varchar[], text, boolean);
DROP FUNCTION tasks_uuid_v7();
"""


class Migration(migrations.Migration):
    dependencies = [("tasks", "0004_webhooks"), ("events", "0001_initial")]
    operations = [migrations.RunSQL(RULE, UNDO)]
