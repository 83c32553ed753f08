"""What a model is told of the conversation so far: built once, when the task starts for the first time."""

from collections.abc import Mapping
from typing import Any

from psycopg.types.json import Jsonb

from genpulse import sql
from genpulse.config import config
from wallet.estimates import estimate, strings

# For each earlier user turn the answer of the same model, else that of the first model that has one.
EARLIER = """
SELECT DISTINCT ON (turn) (c.options->'turn'->>0)::int AS turn, c.input, c.output->>'text' AS answer
FROM tasks_task t
JOIN tasks_taskcontent c ON c.task_id = t.id
JOIN tasks_conversation v ON v.account_id = t.account_id AND v.name = t.conversation_id
WHERE t.account_id = %s AND t.conversation_id = %s AND t.created_at >= v.created_at AND t.hidden_at IS NULL
  AND t.task_type = 'chat' AND t.status = 'succeeded' AND c.output->>'text' <> '' AND c.input IS NOT NULL
  AND (c.options->'turn'->>0)::int < %s
ORDER BY turn DESC, (t.model = %s) DESC, (c.options->'turn'->>1)::int LIMIT %s
"""
KEEP = """
UPDATE tasks_taskcontent SET options = jsonb_set(options, '{context}', %s) WHERE task_id = %s
"""
FIRST = ("system", "developer")
Message = dict[str, Any]


def with_context(row: Mapping[str, Any]) -> dict[str, Any]:
    """The input of a task (a row of `work.READ`) with the earlier turns of its conversation in `messages`."""
    given: dict[str, Any] = row["input"]
    turn = row["options"].get("turn")
    if not turn or not turn[0] or not given or row["task_type"] != "chat":
        return given
    context = row["options"].get("context")
    if context is None:
        context = earlier(row, turn[0])
        sql.execute(KEEP, [Jsonb(context), row["task_id"]])
    said: list[Message] = given.get("messages") or []
    start = next((i for i, one in enumerate(said) if one.get("role") not in FIRST), len(said))
    messages = [*said[:start], *context, *said[start:]]
    return {**given, "messages": messages} if messages else given


def earlier(row: Mapping[str, Any], turn: int) -> list[Message]:
    """At most CONTEXT_TURNS answered turns and CONTEXT_TOKENS tokens, oldest first."""
    wanted = [row["account_id"], row["conversation_id"], turn, row["model"], config.context_turns]
    found: list[Message] = []
    left = config.context_tokens
    for _, given, answer in sql.fetch(EARLIER, wanted):  # newest first
        asked = asked_in(sql.loads(given))
        left -= int(estimate("chat", {"prompt": f"{asked}{answer}"})["prompt_tokens"])
        if left < 0:
            break
        found[:0] = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return found


def asked_in(given: Mapping[str, Any] | None) -> str:
    """What the user said: the prompt, else the last user message. Media are left out."""
    if given is None:
        return ""
    if isinstance(given.get("prompt"), str):
        return str(given["prompt"])
    said = [m.get("content") for m in given.get("messages") or () if m.get("role") == "user"]
    last = said[-1] if said else None
    return "\n".join(strings(last if isinstance(last, list) else [last]))
