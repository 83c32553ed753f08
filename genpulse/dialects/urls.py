"""The doors of tasks other than the native one, each with its own envelope."""

from django.urls import path

from genpulse.dialects import envelopes, generation
from genpulse.http import problems

for prefix in ("/task", "/handlers", "/storage"):
    problems.register(prefix, envelopes.plain)

urlpatterns = [
    path("task", generation.Tasks.as_view()),
    path("task/<str:id_>", generation.OneTask.as_view()),
    path("task/<str:id_>/cancel", generation.CancelTask.as_view()),
    path("handlers", generation.Handlers.as_view()),
    path("storage/upload", generation.StorageUpload.as_view()),
]
