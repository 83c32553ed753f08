"""The rows of the engine. PostgreSQL is the truth: a message lost, doubled or reordered changes nothing here.

`states`: the words for where things stand. `work`: Batch, the parent of tasks; Task, the product noun, narrow
and hot; TaskContent, its bodies, written twice; Attempt, one try, with all vendor state; Conversation.
`order`: Route, tasks that are interchangeable for placement; Share and LevelClock, who has had how much.
`upkeep`: Worker, OrchestratorLease, Chore, who is alive and who does what. `webhooks`: who is told of it.
Everything that changes a Task goes through `tasks.lifecycle.apply`.
"""

from tasks.models.order import LevelClock, Route, Share
from tasks.models.states import ACTIVE, TERMINAL, WAITING, Priority, Stage, Status
from tasks.models.upkeep import Chore, DeadLetter, Erasure, OrchestratorLease, Worker
from tasks.models.webhooks import Delivery, WebhookEndpoint, WebhookSecret
from tasks.models.work import Attempt, Batch, Conversation, Task, TaskContent

__all__ = [
    "ACTIVE",
    "TERMINAL",
    "WAITING",
    "Attempt",
    "Batch",
    "Chore",
    "Conversation",
    "DeadLetter",
    "Delivery",
    "Erasure",
    "LevelClock",
    "OrchestratorLease",
    "Priority",
    "Route",
    "Share",
    "Stage",
    "Status",
    "Task",
    "TaskContent",
    "WebhookEndpoint",
    "WebhookSecret",
    "Worker",
]
