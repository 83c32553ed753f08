"""Conversations. Their turns are tasks: each task of one knows the index of its user turn and its own.

`options.turn` of a task is `[user turn, own turn]`. Tasks of one submit that ask the same are one user turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from django.db.models import QuerySet

from genpulse import sql
from genpulse.ids import new_id, parse_id
from media import services as media
from tasks.context import asked_in
from tasks.drafts import Draft
from tasks.models import TERMINAL, Conversation, Status, Task
from tasks.render import Extras, extras, signed

TITLE = 30
TAKE = """
INSERT INTO tasks_conversation AS known (id, account_id, name, title, metadata, turns, created_at, updated_at)
VALUES (%s, %s, %s, %s, '{}', %s, now(), now())
ON CONFLICT (account_id, name) DO UPDATE
SET turns = known.turns + excluded.turns, title = coalesce(known.title, excluded.title), updated_at = now()
RETURNING turns
"""
# A retry stands where the task stood that it replaced; tasks of an earlier conversation of that name are not ours.
PLACES = """
SELECT t.id, (c.options->'turn'->>0)::int, (c.options->'turn'->>1)::int
FROM tasks_task t JOIN tasks_taskcontent c ON c.task_id = t.id
WHERE t.account_id = %s AND t.conversation_id = %s AND t.created_at >= %s AND t.hidden_at IS NULL
  AND c.options ? 'turn' AND NOT EXISTS (
    SELECT 1 FROM tasks_task r WHERE r.retry_of = t.id AND r.conversation_id = t.conversation_id AND r.hidden_at IS NULL)
ORDER BY 2, 3, 1
"""


def take_turns(account_id: UUID, made: Sequence[Draft]) -> None:
    """Number the drafts that belong to conversations, which are created when unknown. In the caller's transaction."""
    asked: dict[str, dict[str, list[Draft]]] = {}
    for draft in made:
        if draft.body.conversation_id and "turn" not in draft.extra_options:
            turns = asked.setdefault(draft.body.conversation_id, {})
            turns.setdefault(asked_in(draft.input), []).append(draft)
    for name in sorted(asked):
        _take(account_id, name, asked[name])


def _take(account_id: UUID, name: str, turns: dict[str, list[Draft]]) -> None:
    needed = sum(1 + len(answers) for answers in turns.values())
    title = next(iter(turns))[:TITLE] or None
    [(end,)] = sql.fetch(TAKE, [new_id(), account_id, name, title, needed])
    index = end - needed
    for answers in turns.values():
        for place, draft in enumerate(answers, start=1):
            draft.extra_options["turn"] = [index, index + place]
        index += 1 + len(answers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One turn. `task` is the answering task, for a user turn the first one that was asked."""

    index: int
    role: Literal["user", "assistant"]
    task: Task
    more: Extras
    assets: list[dict[str, Any]]

    @property
    def content(self) -> str | None:
        """The prompt; the answer; of an answer that failed the reason."""
        if self.role == "user":
            return asked_in(self.more.input)
        if self.task.status == Status.SUCCEEDED:
            return (self.more.output or {}).get("text")
        return self.more.error["message"] if self.more.error else None

    @property
    def ended(self) -> bool:
        return self.role == "user" or self.task.status in TERMINAL


Place = tuple[int, Literal["user", "assistant"], UUID]


def places(conversation: Conversation) -> list[Place]:
    """Index, role and task of every turn, ascending."""
    key = [conversation.account_id, conversation.name, conversation.created_at]
    found: list[Place] = []
    asked = -1
    for task_id, user_turn, own in sql.fetch(PLACES, key):
        if user_turn != asked:
            asked = user_turn
            found.append((user_turn, "user", task_id))
        found.append((own, "assistant", task_id))
    return found


def turns(wanted: Sequence[Place]) -> list[Turn]:
    """The turns at these places; three queries however many."""
    ids = list({task_id for _, _, task_id in wanted})
    tasks = Task.objects.in_bulk(ids)
    more = extras(ids)
    files = _files([more[id_] for id_ in ids])
    return [
        Turn(
            index=index,
            role=role,
            task=tasks[id_],
            more=more[id_],
            assets=files.get(id_, []) if role == "user" else _results(tasks[id_], more[id_]),
        )
        for index, role, id_ in wanted
    ]


def _results(task: Task, more: Extras) -> list[dict[str, Any]]:
    output = signed(more.output) if task.status == Status.SUCCEEDED else None
    return output["assets"] if output else []


def _files(contents: Sequence[Extras]) -> dict[UUID, list[dict[str, Any]]]:
    """The media of inputs as asset references; one query."""
    named = {content.task_id: list(_asset_ids(content.input)) for content in contents}
    wanted = {id_ for ids in named.values() for id_ in ids}
    if not wanted:
        return {}
    known = media.Asset.objects.filter(deleted_at=None).in_bulk(list(wanted))
    return {
        task_id: [media.reference(known[id_]) for id_ in dict.fromkeys(ids) if id_ in known]
        for task_id, ids in named.items()
    }


def _asset_ids(value: Any) -> list[UUID]:
    """Inputs were resolved at submit: every `asset:<id>` in them is the owner's."""
    if isinstance(value, str):
        id_ = parse_id(value.removeprefix("asset:")) if value.startswith("asset:") else None
        return [id_] if id_ else []
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [id_ for item in items for id_ in _asset_ids(item)]


def find(visible: QuerySet[Conversation], name: str, account_id: UUID) -> Conversation | None:
    """Names are unique per owner; who may see those of others means the own one first."""
    rows = list(visible.filter(name=name)[:50])
    return min(rows, key=lambda row: row.account_id != account_id, default=None)
