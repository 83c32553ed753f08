"""Paths of the administration."""

from django.urls import path

from genpulse.dialects import envelopes
from genpulse.dialects.platform_admin import blacklist, dashboard, executors, keys, workflows
from genpulse.http import problems

problems.register("/api/admin", "platform", envelopes.platform)

urlpatterns = [
    path("api/admin/executors", executors.Executors.as_view()),
    path("api/admin/executors/<str:id_>", executors.OneExecutor.as_view()),
    path("api/admin/workflows", workflows.Workflows.as_view()),
    path("api/admin/workflows/<str:id_>", workflows.OneWorkflow.as_view()),
    path("api/admin/workflow-bindings", workflows.Bindings.as_view()),
    path("api/admin/workflow-bindings/<str:id_>", workflows.OneBinding.as_view()),
    path("api/admin/api-keys", keys.Keys.as_view()),
    path("api/admin/api-keys/<str:id_>", keys.OneKey.as_view()),
    path("api/admin/dashboard/metrics", dashboard.Metrics.as_view()),
    path("api/admin/upload-blacklist", blacklist.Blacklist.as_view()),
    path("api/admin/upload-blacklist/<str:name>", blacklist.BlockedUser.as_view()),
]
