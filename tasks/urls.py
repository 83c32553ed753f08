"""The native paths of tasks, batches and quotes."""

from django.urls import path

from tasks import api, batch_api, event_api

urlpatterns = [
    path("api/v1/tasks", api.Tasks.as_view()),
    path("api/v1/tasks/cancel", api.CancelTasks.as_view()),
    path("api/v1/tasks/retry", api.RetryTasks.as_view()),
    path("api/v1/tasks/<str:id_>", api.OneTask.as_view()),
    path("api/v1/tasks/<str:id_>/events", event_api.TaskEvents.as_view()),
    path("api/v1/tasks/<str:id_>/cancel", api.CancelTask.as_view()),
    path("api/v1/tasks/<str:id_>/retry", api.RetryTask.as_view()),
    path("api/v1/tasks/<str:id_>/clone", api.CloneTask.as_view()),
    path("api/v1/tasks/<str:id_>/promote", api.PromoteTask.as_view()),
    path("api/v1/tasks/<str:id_>/resolve", api.ResolveTask.as_view()),
    path("api/v1/batches", batch_api.Batches.as_view()),
    path("api/v1/batches/<str:id_>", batch_api.OneBatch.as_view()),
    path("api/v1/batches/<str:id_>/events", event_api.BatchEvents.as_view()),
    path("api/v1/batches/<str:id_>/cancel", batch_api.CancelBatch.as_view()),
    path("api/v1/batches/<str:id_>/retry-failed", batch_api.RetryFailed.as_view()),
    path("api/v1/quote", batch_api.Quote.as_view()),
]
