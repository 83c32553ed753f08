"""Paths of the platform's wallet, tasks and notifications."""

from django.urls import path

from genpulse.dialects import envelopes
from genpulse.dialects.platform import common, notify, tasks, wallet
from genpulse.http import problems

problems.register("/api/wallet", "platform", common.wallet_envelope)
problems.register("/api/tasks", "platform", common.task_envelope)
for prefix in ("/api/notify", "/api/media", "/api/abilities", "/api/ability-tasks", "/api/agent"):
    problems.register(prefix, "platform", envelopes.platform)

urlpatterns = [
    path("api/wallet/v1/freeze", wallet.Freeze.as_view()),
    path("api/wallet/v1/confirm", wallet.Confirm.as_view()),
    path("api/wallet/v1/release", wallet.Release.as_view()),
    path("api/wallet/v1/transactions", wallet.Transactions.as_view()),
    path("api/wallet/v1/statistics", wallet.Statistics.as_view()),
    path("api/tasks/v1/submit", tasks.Submit.as_view()),
    path("api/tasks/v1/dispatch", tasks.Dispatch.as_view()),
    path("api/tasks/v1", tasks.Tasks.as_view()),
    path("api/tasks/v1/<str:id_>", tasks.OneTask.as_view()),
    path("api/tasks/v1/<str:id_>/complete", tasks.Complete.as_view()),
    path("api/tasks/v1/<str:id_>/cancel", tasks.Cancel.as_view()),
    path("api/notify/v1/event", notify.Event.as_view()),
]
