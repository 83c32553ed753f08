"""`/console/` and what its page calls."""

from django.urls import path

from genpulse.console import doors, views
from genpulse.http import problems

for prefix in ("/console", "/login-link"):
    problems.register(prefix, "console", problems.native)

urlpatterns = [
    path("console", views.home),
    path("console/sign-in", doors.sign_in),
    path("console/sign-out", doors.sign_out),
    path("console/runs", views.Runs.as_view()),
    path("console/preview", views.Preview.as_view()),
    path("console/balance", views.Balance.as_view()),
    path("console/tasks", views.Tasks.as_view()),
    path("console/tasks/<str:id_>", views.OneCard.as_view()),
    path("console/tasks/<str:id_>/cancel", views.Cancel.as_view()),
    path("console/tasks/<str:id_>/retry", views.Retry.as_view()),
    path("login-link/<str:value>", doors.login_link),
]
