"""`/api/auth/*` of the platform dialect: log-in by password, rotation, log-out."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from rest_framework.request import Request
from rest_framework.response import Response

from genpulse.auth import login
from genpulse.auth.login import TokenPair
from genpulse.config import config
from genpulse.errors import ValidationFailed
from genpulse.http import ratelimit
from genpulse.http.views import DoorView

Text = Annotated[str, StringConstraints(min_length=1, max_length=4096)]


class LoginBody(BaseModel):
    username: Text | None = None
    email: Text | None = None
    password: Text


class RefreshBody(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    refresh_token: Text = Field(alias="refreshToken")


class LoginView(DoorView):
    """Log in by name or e-mail and password; ten attempts a minute from one address."""

    public = True
    bodies = {"POST": LoginBody}

    def post(self, request: Request) -> Response:
        ratelimit.check_login(request.META.get("REMOTE_ADDR", ""))
        body = self.parse(LoginBody)
        name = body.username or body.email
        if name is None:
            raise ValidationFailed.of("username", "required", "username or email is needed")
        return Response(render_pair(login.pair(login.by_password(name, body.password))))


class RefreshView(DoorView):
    """A new pair of tokens for a refresh token, which is spent."""

    public = True
    bodies = {"POST": RefreshBody}

    def post(self, request: Request) -> Response:
        return Response(render_pair(login.refresh(self.parse(RefreshBody).refresh_token)))


class LogoutView(DoorView):
    """Spend the refresh token of this log-in."""

    bodies = {"POST": RefreshBody}

    def post(self, request: Request) -> Response:
        login.log_out(self.credential.user, self.parse(RefreshBody).refresh_token)
        return Response({"success": True})


class WhoView(DoorView):
    """The user of the credential."""

    takes_anonymous = True

    def get(self, request: Request) -> Response:
        user = self.credential.user
        return Response(
            {
                "id": str(user.id),
                "username": user.name,
                "email": user.email,
                "role": user.role,
                "status": "active",
            }
        )


def render_pair(pair: TokenPair) -> dict[str, Any]:
    return {
        "accessToken": pair.access,
        "tokenType": "bearer",
        "expiresIn": config.jwt_access_token_expires,
        "refreshToken": pair.refresh,
        "role": pair.user.role,
    }
