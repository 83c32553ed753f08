"""Into the console and out of it: password, API key, one-time link, sign out."""

from django.contrib.auth import login as start_session
from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect, ensure_csrf_cookie
from django.views.decorators.http import require_POST

from genpulse.auth import login
from genpulse.auth.authentication import SESSION_KEY, from_headers
from genpulse.auth.models import ApiKey, User
from genpulse.console.pages import HOME, page
from genpulse.errors import InvalidCredentials, Problem
from genpulse.http import problems, ratelimit
from genpulse.http.plain import read_only

BACKEND = "django.contrib.auth.backends.ModelBackend"


@ensure_csrf_cookie
def sign_in_page(request: HttpRequest, problem: Problem | None = None) -> HttpResponse:
    """The forms; with the refusal of the last attempt when there was one."""
    named = request.POST.get("name", "")
    status = problem.status if problem else 200
    return page(request, "sign_in", {"problem": problem, "name": named}, status)


@require_POST
@csrf_protect
def sign_in(request: HttpRequest) -> HttpResponse:
    """By name and password, or by an API key; attempts count by address."""
    address = request.META.get("REMOTE_ADDR", "")
    try:
        ratelimit.check_login(address)
        if "key" in request.POST:
            enter_with_key(request, request.POST["key"].strip(), address)
        else:
            given = (request.POST.get(name, "") for name in ("name", "password"))
            enter(request, login.by_password(*given))
    except Problem as problem:
        return sign_in_page(request, problem)
    return HttpResponseRedirect(HOME)


def enter(request: HttpRequest, user: User) -> None:
    request.session.flush()
    start_session(request, user, backend=BACKEND)


def enter_with_key(request: HttpRequest, text: str, address: str) -> None:
    """The session may do what the key may, as long as the key may. Raises InvalidCredentials and others."""
    credential = from_headers({"X-API-Key": text}, address)
    if credential is None or not isinstance(credential.key, ApiKey):
        raise InvalidCredentials("Paste an API key: gp_live_ and 57 characters.")
    request.session.flush()
    request.session[SESSION_KEY] = credential.key.lookup


@read_only
@never_cache
def login_link(request: HttpRequest, value: str) -> HttpResponse:
    """Spends the link, starts a session and leads to console or admin."""
    try:
        user, target = login.by_link(value)
    except Problem as problem:
        if "text/html" in request.headers.get("Accept", ""):
            return sign_in_page(request, problem)
        return problems.answer(problem, request)
    enter(request, user)
    return HttpResponseRedirect(target)


@require_POST
@csrf_protect
def sign_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return HttpResponseRedirect(HOME)
