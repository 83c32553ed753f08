"""The console's page and the fragments it is made of, with the credential, scopes and limits of the API."""

from typing import Any, ClassVar
from uuid import UUID

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import ensure_csrf_cookie
from rest_framework.parsers import FormParser
from rest_framework.request import Request

from genpulse.console import requests, shown
from genpulse.console.doors import sign_in_page
from genpulse.console.pages import page, told
from genpulse.errors import AuthenticationRequired
from genpulse.events import cursors
from genpulse.http.pagination import paginate
from genpulse.http.parsing import parse
from genpulse.http.problems import problem_of
from media import services as media
from tasks import batches, services, verbs
from tasks.api import TaskDoor
from tasks.drafts import Draft
from tasks.filters import TaskFilter
from tasks.models import Task
from tasks.requests import TaskBody
from tasks.services import BatchSpec
from wallet.api import render_wallet

ROWS = "8"


class ConsoleView(TaskDoor):
    """Answers HTML, refusals too."""

    source = "console"
    parser_classes = (FormParser,)
    schema = None

    def handle_exception(self, exc: Exception) -> Any:
        return told(self.request, problem_of(exc))

    def page(self, name: str, **context: Any) -> HttpResponse:
        return page(self.request._request, name, context)

    def own(self) -> Any:
        """My tasks: also an admin's console shows no others."""
        return Task.objects.filter(hidden_at=None, account_id=self.account.id)

    def card(self, task_id: UUID) -> HttpResponse:
        [card] = shown.cards([Task.objects.get(pk=task_id)])
        return self.page("card", card=card)

    def listed_tasks(self) -> dict[str, Any]:
        """A page of my tasks for the filter and cursor of the query."""
        given = self.request.query_params
        status, cursor = given.get("status", ""), given.get("cursor", "")
        wanted = parse(TaskFilter, {"status": status} if status else {})
        found = paginate(
            wanted.apply(self.own()), {"cursor": cursor, "limit": ROWS}, lambda task: task
        )
        return {
            "rows": shown.cards(found["items"]),
            "older": found["next_cursor"],
            "cursor": cursor,
            "status": status,
            "filters": shown.FILTERS,
        }

    def wallet(self) -> dict[str, str] | None:
        return render_wallet(self.account) if self.credential.has("wallet:read") else None


class Home(ConsoleView):
    """The page; for those who are not signed in, the way in."""

    def get(self, request: Request) -> HttpResponse:
        since = str(cursors.now())  # first: what happens from here on comes by WebSocket
        runs = shown.runs(self.own())
        chosen = [card.name for card in runs[0].cards] if runs else []
        families, missing = shown.families(chosen)
        return self.page(
            "index",
            since=since,
            runs=runs,
            families=families,
            missing=missing,
            example=requests.EXAMPLE,
            person=self.user,
            wallet=self.wallet(),
            **self.listed_tasks(),
        )

    def handle_exception(self, exc: Exception) -> Any:
        problem = problem_of(exc)
        if problem.status not in {401, 403}:
            return super().handle_exception(exc)
        plain = isinstance(problem, AuthenticationRequired)
        return sign_in_page(self.request._request, None if plain else problem)


class Runs(ConsoleView):
    """The form: submit, and show what was made."""

    def post(self, request: Request) -> HttpResponse:
        wish = requests.read(request.POST)
        made, spec = self.drafts(wish)
        kept = False
        try:
            with transaction.atomic():
                ids = services.write(self.actor(), made, spec)
            kept = True
        finally:
            if not kept:
                media.discard([file for draft in made for file in draft.files])
        tasks = Task.objects.in_bulk(ids)
        return self.page("run", run=shown.Run(shown.cards([tasks[id_] for id_ in ids])))

    def drafts(self, wish: requests.Wish) -> tuple[list[Draft], BatchSpec | None]:
        if not wish.is_batch:
            return services.check_all(self.actor(), [("", parse(TaskBody, wish.body))]), None
        own, bodies = batches.children(wish.body)
        return services.check_all(self.actor(), bodies), BatchSpec(mode=own.mode)


class Preview(ConsoleView):
    """What the form would cost as it stands, and the command that does the same."""

    def post(self, request: Request) -> HttpResponse:
        wish = requests.read(request.POST, example=True)
        bodies = (
            batches.children(wish.body)[1] if wish.is_batch else [("", parse(TaskBody, wish.body))]
        )
        quote = services.quote(self.actor(), bodies)
        base = request.build_absolute_uri("/").rstrip("/")
        return self.page("preview", quote=quote, curl=wish.curl(base))

    def handle_exception(self, exc: Exception) -> Any:
        """What would be refused is said in its place: nothing has failed yet."""
        problem = problem_of(exc)
        if problem.status == 401 or problem.status >= 500:
            return super().handle_exception(exc)
        return self.page("preview", problem=problem)


class OneCard(ConsoleView):
    def get(self, request: Request, id_: str) -> HttpResponse:
        return self.card(self.task(id_).id)


class Cancel(ConsoleView):
    def post(self, request: Request, id_: str) -> HttpResponse:
        task = self.task(id_)
        verbs.cancel([task.id], by=self.credential.user.name)
        return self.card(task.id)


class Retry(ConsoleView):
    def post(self, request: Request, id_: str) -> HttpResponse:
        task = self.task(id_)
        return self.card(verbs.retry(self.for_owner(task), task)[0])


class Tasks(ConsoleView):
    """My tasks, filtered and page by page."""

    def get(self, request: Request) -> HttpResponse:
        return self.page("tasks", **self.listed_tasks())


class Balance(ConsoleView):
    scopes: ClassVar[dict[str, str]] = {"GET": "wallet:read"}

    def get(self, request: Request) -> HttpResponse:
        return self.page("balance", wallet=self.wallet())


@ensure_csrf_cookie
def home(request: HttpRequest) -> HttpResponse:
    """The page, with the cookie that its forms need."""
    return Home.as_view()(request)
