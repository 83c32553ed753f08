"""The doors of tasks other than the native one, each with its own envelope."""

from django.urls import include, path

from genpulse.dialects import (
    ai_operations,
    ai_service,
    ai_words,
    chat,
    chat_history,
    chat_words,
    envelopes,
    generation,
    generation_words,
)
from genpulse.dialects.openai.leaving import attentive
from genpulse.http import problems
from tasks import webhook_sending
from tasks.waiting import patient

for prefix in ("/task", "/handlers", "/storage"):
    problems.register(prefix, "generation", envelopes.plain)
problems.register("/v1", "chat", envelopes.plain)
for prefix in ("/ai", "/api/v1/ai"):
    problems.register(prefix, "ai", ai_words.envelope)

webhook_sending.styles |= {
    "generation": generation_words.called_back,
    "chat": chat_words.called_back,
    "ai": ai_words.called_back,
}

AI = [
    *(
        entry
        for kind in ("image", "text", "video")
        for entry in (
            path(f"{kind}/task", patient(ai_service.Submit.as_view(kind=kind))),
            path(f"{kind}/task/<str:id_>", ai_service.Delete.as_view(kind=kind)),
            path(f"{kind}/result/<str:id_>", ai_service.Result.as_view(kind=kind)),
            path(f"{kind}/tasks", ai_service.Tasks.as_view(kind=kind)),
        )
    ),
    path("task/result/<str:id_>", ai_service.Result.as_view()),
    path("task/<str:id_>", ai_service.Delete.as_view()),
    path("tasks", ai_service.Tasks.as_view()),
    path("providers", ai_operations.Providers.as_view()),
    path("queue/stats", ai_operations.QueueStats.as_view()),
    path("users", ai_operations.Users.as_view()),
    path("users/<str:id_>", ai_operations.OneUser.as_view()),
]

urlpatterns = [
    path("", include("genpulse.dialects.openai.urls")),
    path("task", generation.Tasks.as_view()),
    path("task/<str:id_>", generation.OneTask.as_view()),
    path("task/<str:id_>/cancel", generation.CancelTask.as_view()),
    path("handlers", generation.Handlers.as_view()),
    path("storage/upload", generation.StorageUpload.as_view()),
    path("v1/chat/completions", attentive(chat.Completions.as_view())),
    path("v1/images/generations", chat.Images.as_view()),
    path("v1/tasks", chat.Tasks.as_view()),
    path("v1/tasks/<str:id_>", chat.OneTask.as_view()),
    path("v1/tasks/<str:id_>/cancel", chat.CancelTask.as_view()),
    path("v1/batches/<str:id_>", chat.OneBatch.as_view()),
    path("v1/batches/<str:id_>/cancel", chat.CancelBatch.as_view()),
    path("v1/conversations", chat_history.Conversations.as_view()),
    path("v1/conversations/<path:name>/history", chat_history.History.as_view()),
    path("v1/conversations/<path:name>", chat_history.OneConversation.as_view()),
    path("ai/", include(AI)),
    path("api/v1/ai/", include(AI)),
]
