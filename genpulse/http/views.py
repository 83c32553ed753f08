"""The base of every HTTP view: who asks, for whom, with what body."""

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar, cast

from django.db import connection
from django.db.models import Model, QuerySet
from django.http import QueryDict
from pydantic import BaseModel
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from genpulse.auth import services
from genpulse.auth.credentials import Credential, credential_of
from genpulse.auth.models import Account, User
from genpulse.errors import AuthenticationRequired, MalformedHeader
from genpulse.http import idempotency, parsing, strict_json
from genpulse.http.idempotency import Answer

M = TypeVar("M", bound=BaseModel)
R = TypeVar("R", bound=Model)
READS = frozenset({"GET", "HEAD", "OPTIONS"})
USER_HEADER = "X-GenPulse-User"


class DoorView(APIView):
    """What all doors share. `scopes`: method -> scope; a method without one takes any credential.

    `bodies` and `queries` (method -> model) and `statuses` (method -> status of success, 200) are for
    /openapi.json.
    """

    request: Request
    public: ClassVar[bool] = False
    scopes: ClassVar[dict[str, str]] = {}
    bodies: ClassVar[dict[str, type[BaseModel]]] = {}
    queries: ClassVar[dict[str, type[BaseModel]]] = {}
    statuses: ClassVar[dict[str, int]] = {}
    takes_session: ClassVar[bool] = False
    takes_anonymous: ClassVar[bool] = False  # DEV_ANONYMOUS_USER counts here
    _name: str | None = None
    _user: User | None = None
    _named_by: str = "user"

    @property
    def credential(self) -> Credential:
        """Raises AuthenticationRequired on public paths without one."""
        credential = credential_of(self.request)
        if credential is None:
            raise AuthenticationRequired
        return credential

    def act_for(self, name: str | None, field: str = "user") -> None:
        """Name the user acted for, as `field` of a dialect's body or query does."""
        self._name, self._user, self._named_by = name or None, None, field

    @property
    def user(self) -> User:
        """The user acted for. A write inside a transaction creates an unknown one, so that a refused
        write creates none; elsewhere an unknown user is unsaved and owns nothing."""
        if self._user is None or self._user._state.adding:
            create = self.request.method not in READS and connection.in_atomic_block
            self._user = services.acting_user(
                self.credential, self._name, self._named_by, create=create
            )
        return self._user

    @property
    def account(self) -> Account:
        """The account acted for; see `user`."""
        return self.user.account

    def read_account(self) -> Account | None:
        """Whose rows a list shows: `?user=` (or the acted-for user); None = everybody's, for admin."""
        asked = self.request.query_params.get("user")
        name = asked or self._name
        if name is None and self.credential.has("admin"):
            return None
        field = "user" if asked else self._named_by
        return services.named_user(self.credential, name, field).account

    def listed(self, queryset: QuerySet[R], field: str = "account_id") -> QuerySet[R]:
        """Rows for a list: those of `read_account()`."""
        account = self.read_account()
        return queryset if account is None else queryset.filter(**{field: account.id})

    def visible(self, queryset: QuerySet[R], field: str = "account_id") -> QuerySet[R]:
        """Rows this credential may see one by one; credentials that may name anybody see all."""
        if self._name is None and self.credential.names_others:
            return queryset
        account = services.named_user(self.credential, self._name, self._named_by).account
        return queryset.filter(**{field: account.id})

    def sees(self, account_id: str, name: str) -> bool:
        """Whether `visible` would surely show what belongs to the account of user `name`; asks no database."""
        if self._name is not None:
            return self.credential.names_others and self._name == name
        return self.credential.sees(account_id)

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object of the request; `{}` when it has no body."""
        data = self.request.data
        return data.dict() if isinstance(data, QueryDict) else cast(dict[str, Any], data)

    def parse(self, model: type[M]) -> M:
        """The body as a `model`. Raises ValidationFailed."""
        return parsing.parse(model, self.body)

    def query(self, model: type[M]) -> M:
        """The query parameters as a `model`, which should ignore unknown ones. Raises ValidationFailed."""
        params = self.request.query_params.dict()
        for name, text in params.items():
            strict_json.storable(name, text)
        return parsing.parse(model, params)

    def scope(self) -> idempotency.Scope | None:
        """What the Idempotency-Key of this request counts for; None without one. JSON bodies only."""
        key = idempotency.key_of(self.request.headers, self.body)
        if key is None:
            return None
        return idempotency.Scope(
            owner=self.user.name,
            route=f"{self.request.method} {self.request.path_info}",
            key=key,
            fingerprint=idempotency.fingerprint(self.body),
        )

    def once(
        self, create: Callable[[], Answer], refresh: idempotency.Refresh | None = None
    ) -> Answer:
        """Run `create` in one transaction, at most once for an Idempotency-Key."""
        return idempotency.idempotent(self.scope(), create=create, refresh=refresh)

    @staticmethod
    def reply(answer: Answer) -> Response:
        """The answer on the wire, with `Idempotency-Replayed` when it is one."""
        replayed = {"Idempotency-Replayed": "true"} if answer.replayed else {}
        return Response(answer.body, answer.status, headers={**answer.headers, **replayed})

    def options(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        return Response(status=204, headers={"Allow": ", ".join(self.allowed_methods)})

    def get_authenticators(self) -> list[BaseAuthentication]:
        return [] if self.public else super().get_authenticators()

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        verdict = getattr(request._request, "rate", None)
        for name, value in verdict.headers.items() if verdict else ():
            response.headers[name] = value
        return super().finalize_response(request, response, *args, **kwargs)

    @property
    def default_response_headers(self) -> dict[str, str]:
        return {}


class NativeView(DoorView):
    """`/api/v1`: sessions are welcome, and `X-GenPulse-User` names the user acted for."""

    takes_session = True

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        name = request.headers.get(USER_HEADER)
        if name is None:
            return
        if not (name.isascii() and name.isprintable() and name.strip()):
            raise MalformedHeader(f"{USER_HEADER} must be a user's name.")
        credential = credential_of(request)
        if credential is not None:  # here, for views that never ask whom they act for
            services.check_named(credential, name, USER_HEADER)
        self.act_for(name, USER_HEADER)
