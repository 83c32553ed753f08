"""`/api/v1/users`, for admins."""

from rest_framework.request import Request
from rest_framework.response import Response

from genpulse.auth import services
from genpulse.auth.models import User
from genpulse.dialects.accounts.bodies import ChangedUser, NewKey, NewUser
from genpulse.dialects.accounts.keys import answer_new_key
from genpulse.dialects.accounts.renders import render_user
from genpulse.errors import NotFound
from genpulse.http.idempotency import Answer
from genpulse.http.pagination import paginate
from genpulse.http.views import NativeView
from tasks import erasure


def named(name: str) -> User:
    user = services.find_user(name)
    if user is None:
        raise NotFound("No such user.")
    return user


class UsersView(NativeView):
    """Users; each has an account of the same name."""

    scopes = {"GET": "admin", "POST": "admin"}
    bodies = {"POST": NewUser}
    statuses = {"POST": 201}

    def get(self, request: Request) -> Response:
        rows = User.objects.select_related("account")
        return Response(paginate(rows, request.query_params, render_user))

    def post(self, request: Request) -> Response:
        body = self.parse(NewUser)
        return self.reply(self.once(lambda: self.create(body)))

    @staticmethod
    def create(body: NewUser) -> Answer:
        user = services.create_user(
            body.name,
            email=body.email,
            password=body.password,
            role=body.role,
            **body.limits(),
        )
        headers = {"Location": f"/api/v1/users/{user.name}"}
        return Answer(status=201, body=render_user(user), headers=headers, object_id=user.id)


class UserView(NativeView):
    """One user by name; PATCH changes what the body names."""

    scopes = {"GET": "admin", "PATCH": "admin"}
    bodies = {"PATCH": ChangedUser}

    def get(self, request: Request, name: str) -> Response:
        return Response(render_user(named(name)))

    def patch(self, request: Request, name: str) -> Response:
        user, body = named(name), self.parse(ChangedUser)
        services.change_user(user, body.changes(), body.limits())
        return Response(render_user(user))


class UserKeysView(NativeView):
    """Make a key for any user, with any scopes."""

    scopes = {"POST": "admin"}
    bodies = {"POST": NewKey}
    statuses = {"POST": 201}

    def post(self, request: Request, name: str) -> Response:
        return answer_new_key(named(name), self.parse(NewKey))


class UserDataView(NativeView):
    """Remove everything a user has made; the user, keys and the ledger stay."""

    scopes = {"DELETE": "admin"}

    def delete(self, request: Request, name: str) -> Response:
        account = named(name).account
        return Response(erasure.erase(account, by=self.credential.user.name))
