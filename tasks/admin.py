"""Django admin's pages for tasks and batches: to look at. What changes a task is the engine's."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin

from genpulse.money import to_credits
from tasks.models import Batch, Task

if TYPE_CHECKING:
    TaskPages = admin.ModelAdmin[Task]
    BatchPages = admin.ModelAdmin[Batch]
else:
    TaskPages = BatchPages = admin.ModelAdmin


class ReadOnly:
    """Rows that only the engine writes."""

    show_full_result_count = False

    def has_add_permission(self, *_: Any, **__: Any) -> bool:
        return False

    def has_change_permission(self, *_: Any, **__: Any) -> bool:
        return False

    def has_delete_permission(self, *_: Any, **__: Any) -> bool:
        return False


@admin.register(Task)
class TaskAdmin(ReadOnly, TaskPages):
    list_display = (
        "id",
        "account",
        "status",
        "task_type",
        "model",
        "executor",
        "charged_credits",
        "created_at",
    )
    list_filter = ("status", "family")
    list_select_related = ("account",)
    search_fields = ("=account__name", "=external_id", "=model")
    ordering = ("-pk",)

    @admin.display(description="charged")
    def charged_credits(self, task: Task) -> str:
        return to_credits(task.charged)


@admin.register(Batch)
class BatchAdmin(ReadOnly, BatchPages):
    list_display = ("id", "account", "mode", "title", "total", "open", "created_at")
    list_filter = ("mode",)
    list_select_related = ("account",)
    search_fields = ("=account__name", "title")
    ordering = ("-pk",)
