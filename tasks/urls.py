"""The native paths of tasks, batches, quotes, queues and executors."""

from django.urls import path

from tasks import (
    api,
    batch_api,
    bulk_api,
    catalogue_api,
    conversation_api,
    event_api,
    fleet_api,
    grants,
    queue_api,
    report_api,
    workflow_api,
)
from tasks.glance import at_a_glance
from tasks.waiting import patient

urlpatterns = [
    path("api/v1/tasks", patient(api.Tasks.as_view())),
    path("api/v1/tasks/cancel", bulk_api.CancelTasks.as_view()),
    path("api/v1/tasks/retry", bulk_api.RetryTasks.as_view()),
    path("api/v1/tasks/<str:id_>", at_a_glance(patient(api.OneTask.as_view()))),
    path("api/v1/tasks/<str:id_>/events", patient(event_api.TaskEvents.as_view())),
    path("api/v1/tasks/<str:id_>/cancel", api.CancelTask.as_view()),
    path("api/v1/tasks/<str:id_>/retry", api.RetryTask.as_view()),
    path("api/v1/tasks/<str:id_>/clone", api.CloneTask.as_view()),
    path("api/v1/tasks/<str:id_>/promote", api.PromoteTask.as_view()),
    path("api/v1/tasks/<str:id_>/resolve", api.ResolveTask.as_view()),
    path("api/v1/batches", patient(batch_api.Batches.as_view())),
    path("api/v1/batches/<str:id_>", patient(batch_api.OneBatch.as_view())),
    path("api/v1/batches/<str:id_>/events", patient(event_api.BatchEvents.as_view())),
    path("api/v1/batches/<str:id_>/cancel", batch_api.CancelBatch.as_view()),
    path("api/v1/batches/<str:id_>/retry-failed", batch_api.RetryFailed.as_view()),
    path("api/v1/conversations", conversation_api.Conversations.as_view()),
    path("api/v1/conversations/<path:name>/turns", conversation_api.Turns.as_view()),
    path("api/v1/conversations/<path:name>", conversation_api.OneConversation.as_view()),
    path("api/v1/workflows", workflow_api.Workflows.as_view()),
    path("api/v1/workflows/<str:reference>", workflow_api.OneWorkflow.as_view()),
    path("api/v1/ws-ticket", grants.Ticket.as_view()),
    path("api/v1/quote", batch_api.Quote.as_view()),
    path("api/v1/models", catalogue_api.Models.as_view()),
    path("api/v1/models/<path:name>", catalogue_api.OneModel.as_view()),
    path("api/v1/providers", catalogue_api.Providers.as_view()),
    path("api/v1/tasks/<str:id_>/explain", fleet_api.Explain.as_view()),
    path("api/v1/tasks/<str:id_>/attempts", fleet_api.TaskAttempts.as_view()),
    path("api/v1/usage", report_api.UsageReport.as_view()),
    path("api/v1/margin", report_api.MarginReport.as_view()),
    path("api/v1/attempts", fleet_api.Attempts.as_view()),
    path("api/v1/executors", fleet_api.Executors.as_view()),
    path("api/v1/executors/<str:reference>", fleet_api.OneExecutor.as_view()),
    *(
        path(f"api/v1/executors/<str:reference>/{verb}", fleet_api.SteerExecutor.as_view(verb=verb))
        for verb in fleet_api.WISHES
    ),
    path("api/v1/executors/<str:reference>/probe", fleet_api.ProbeExecutor.as_view()),
    path("api/v1/dead-letters", fleet_api.DeadLetters.as_view()),
    path("api/v1/dead-letters/<str:id_>", fleet_api.OneDeadLetter.as_view()),
    path("api/v1/queues", queue_api.Queues.as_view()),
    *(
        path(f"api/v1/queues/{verb}", queue_api.SteerAll.as_view(verb=verb))
        for verb in queue_api.STATES
    ),
    path("api/v1/queues/<str:family>", queue_api.OneQueue.as_view()),
    *(
        path(f"api/v1/queues/<str:family>/{verb}", queue_api.Steer.as_view(verb=verb))
        for verb in queue_api.STATES
    ),
    path("api/v1/queues/<str:family>/purge", queue_api.Purge.as_view()),
    path("api/v1/queues/<str:family>/promote", queue_api.Promote.as_view()),
]
