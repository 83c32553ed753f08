"""`/api/v1/keys`: a user's own API keys; an admin's for anybody."""

from django.db import transaction
from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from genpulse.auth import services
from genpulse.auth.credentials import DEFAULT_SCOPES
from genpulse.auth.models import ApiKey, User
from genpulse.dialects.accounts.bodies import NewKey
from genpulse.dialects.accounts.renders import render_key
from genpulse.errors import NotFound, ScopeMissing, UserMismatch
from genpulse.http.pagination import paginate
from genpulse.http.views import NativeView
from genpulse.ids import parse_id


def answer_new_key(user: User, body: NewKey) -> Response:
    """201 with the key's text, which no later answer repeats; hence no Idempotency-Key here."""
    scopes = DEFAULT_SCOPES if body.scopes is None else body.scopes
    key, text = services.create_key(user, name=body.name, scopes=scopes, **body.options())
    return Response({**render_key(key), "key": text}, 201)


class OwnKeysView(NativeView):
    """`act_as` reaches the work of other users, not their keys: only an admin sees those."""

    def rows(self) -> QuerySet[ApiKey]:
        """Revoked keys stay listed."""
        rows = ApiKey.objects.select_related("user")
        admin = self.credential.has("admin")
        return rows if admin else rows.filter(user=self.credential.user)


class KeysView(OwnKeysView):
    """API keys of the own user; an admin's list shows everybody's."""

    scopes = {"GET": "keys", "POST": "keys"}
    bodies = {"POST": NewKey}
    statuses = {"POST": 201}

    def get(self, request: Request) -> Response:
        rows = self.listed(self.rows(), "user__account_id")
        return Response(paginate(rows, request.query_params, render_key))

    @transaction.atomic
    def post(self, request: Request) -> Response:
        body = self.parse(NewKey)
        user = self.user
        if user != self.credential.user and not self.credential.has("admin"):
            raise UserMismatch("Only an admin makes keys for others.")
        for scope in DEFAULT_SCOPES if body.scopes is None else body.scopes:
            if not self.credential.has(scope):
                raise ScopeMissing(f"Your credential has no scope {scope} to give.", scope=scope)
        return answer_new_key(user, body)


class KeyView(OwnKeysView):
    """One key. DELETE revokes it: every door refuses it within a second."""

    scopes = {"GET": "keys", "DELETE": "keys"}
    statuses = {"DELETE": 204}

    def get(self, request: Request, key_id: str) -> Response:
        return Response(render_key(self.row(key_id)))

    def delete(self, request: Request, key_id: str) -> Response:
        services.revoke_key(self.row(key_id))
        return Response(status=204)

    def row(self, key_id: str) -> ApiKey:
        rows = self.visible(self.rows(), "user__account_id")
        known = parse_id(key_id)
        key = rows.filter(pk=known).first() if known else None
        if key is None:
            raise NotFound("No such key.")
        return key
