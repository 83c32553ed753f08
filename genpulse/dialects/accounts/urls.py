"""Native paths lie at `/api/v1/`, the platform's at `/api/auth/`, the pages at the root."""

from django.urls import path

from genpulse.dialects import envelopes
from genpulse.dialects.accounts import keys, me, pages, platform, users
from genpulse.http import problems

problems.register("/api/auth", "platform", envelopes.platform)
problems.register("/api/auth/login", "platform", envelopes.platform_login)

urlpatterns = [
    path("api/v1/me", me.MeView.as_view()),
    path("api/v1/keys", keys.KeysView.as_view()),
    path("api/v1/keys/<str:key_id>", keys.KeyView.as_view()),
    path("api/v1/users", users.UsersView.as_view()),
    path("api/v1/users/<str:name>", users.UserView.as_view()),
    path("api/v1/users/<str:name>/keys", users.UserKeysView.as_view()),
    path("api/v1/users/<str:name>/data", users.UserDataView.as_view()),
    path("api/auth/login", platform.LoginView.as_view()),
    path("api/auth/refresh", platform.RefreshView.as_view()),
    path("api/auth/logout", platform.LogoutView.as_view()),
    path("api/auth/me", platform.WhoView.as_view()),
    path("admin/login/", pages.admin_login),
]
