"""The executors as the engine sees them at one moment: who could serve a route, who may, and who should.

`Fleet.load()` reads four small tables; everything after it is pure. A verdict is one executor's answer to one
route: eligible, or the reason why not. Reasons are the words of the public `explain`.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from genpulse import sql
from genpulse.config import config
from providers import registry

# A cooldown with one of these reasons says that work is impossible there, not merely unwise now.
HARD = {"not_available", "quota_exhausted", "bad_credentials"}
# When nothing but these stands in the way everywhere, everything is tried.
HEALTH = {"circuit_open", "unhealthy"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorView:
    id: UUID
    name: str
    type: str
    dispatch: str
    status: str
    weight: int
    max_concurrency: int
    region: str
    tags: tuple[str, ...]
    models: frozenset[str] | None
    loaded_model: str
    config: Mapping[str, Any]
    credentials: tuple[UUID, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialView:
    id: UUID
    name: str
    usable: bool  # active, not expired, daily quota left
    quota_left: int | None  # uses until midnight; None: no quota
    max_concurrency: int | None
    usage_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CooldownView:
    executor_id: UUID | None
    credential_id: UUID | None
    model: str
    reason: str
    until: datetime | None
    over: bool  # its time has passed: one task may be let through
    probing: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteView:
    """What decides who may serve: see `tasks.models.Route`."""

    id: int
    family: str
    provider: str
    model: str = ""
    action: str = ""
    only: tuple[str, ...] = ()
    avoid: tuple[str, ...] = ()
    prefer: tuple[str, ...] = ()
    region: str = ""
    tags: tuple[str, ...] = ()
    tried: tuple[str, ...] = ()  # executor ids that failed this work: only if nobody else can
    refused: tuple[str, ...] = ()  # executor ids that cannot do this work at all
    needs: tuple[str, ...] = ()  # model files of a ComfyUI workflow
    executor: str = ""  # id of the executor an action is bound to

    @property
    def loads(self) -> str:
        """What an executor has in its memory after such work."""
        return self.needs[0] if self.needs else self.model


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    executor: ExecutorView
    reason: str = "eligible"
    detail: str = ""
    credentials: tuple[UUID, ...] = ()  # the vendor keys that may be used, least used first
    probe: CooldownView | None = None  # half-open: this one task decides

    @property
    def eligible(self) -> bool:
        return self.reason == "eligible"

    @property
    def hopeless(self) -> bool:
        """No waiting helps; somebody must change something."""
        return self.reason in {
            "disabled",
            "excluded_by_request",
            "region_mismatch",
            "tag_mismatch",
            "model_missing",
            "node_missing",
            "no_credential",
        }

    def shown(self) -> dict[str, Any]:
        return {
            "executor": self.executor.name,
            "eligible": self.eligible,
            "reason": self.reason,
            "detail": self.detail,
        }


Asked = tuple[sql.Answer, sql.Answer, sql.Answer]


def ask() -> Asked:
    """Send the questions for `Fleet.load`."""
    with sql.together():
        return sql.later(EXECUTORS), sql.later(CREDENTIALS), sql.later(COOLDOWNS)


@dataclass(frozen=True, slots=True)
class Fleet:
    executors: tuple[ExecutorView, ...]
    credentials: Mapping[UUID, CredentialView]
    cooldowns: tuple[CooldownView, ...]
    loaded_at: float = field(default_factory=time.monotonic)

    @classmethod
    def load(cls, asked: Asked | None = None) -> "Fleet":
        executors, credentials, cooldowns = asked or ask()
        return cls(
            executors=tuple(_executor(row) for row in executors.dicts()),
            credentials={row["id"]: CredentialView(**row) for row in credentials.dicts()},
            cooldowns=tuple(CooldownView(**row) for row in cooldowns.dicts()),
        )

    def verdicts(self, route: RouteView) -> list[Verdict]:
        """One verdict for each executor of the route's provider; capacity is not looked at here."""
        answers = [
            self._judge(executor, route)
            for executor in self.executors
            if executor.type == route.provider
        ]
        if answers and not any(answer.eligible for answer in answers):
            answers = [
                Verdict(executor=answer.executor, credentials=answer.credentials)
                if answer.reason in HEALTH or answer.reason == "tried"
                else answer
                for answer in answers
            ]
        return [
            Verdict(
                executor=a.executor,
                reason="excluded_by_request",
                detail="it failed this task before",
            )
            if a.reason == "tried"
            else a
            for a in answers
        ]

    def _judge(self, executor: ExecutorView, route: RouteView) -> Verdict:
        reason, detail = standing_refusal(executor, route)
        if reason:
            return Verdict(executor=executor, reason=reason, detail=detail)
        keys, why = self._credentials(executor, route)
        if why:
            return Verdict(executor=executor, reason=why[0], detail=why[1])
        cold = self._cooldown(executor.id, None, route.model)
        if cold and not cold.over:
            reason = cold.reason if cold.reason in HEALTH else "cooling_down"
            return Verdict(executor=executor, reason=reason, detail=cold.reason, credentials=keys)
        if str(executor.id) in route.tried:
            return Verdict(executor=executor, reason="tried", credentials=keys)
        return Verdict(executor=executor, credentials=keys, probe=cold)

    def _credentials(
        self, executor: ExecutorView, route: RouteView
    ) -> tuple[tuple[UUID, ...], tuple[str, str] | None]:
        """The credentials that may be used, the least used first; an executor without any needs none."""
        if not executor.credentials:
            return (), None
        known = [self.credentials[id_] for id_ in executor.credentials if id_ in self.credentials]
        usable = [
            credential
            for credential in known
            if credential.usable and not self._banned(executor.id, credential.id, route.model)
        ]
        if not usable:
            return (), ("no_credential", "every key is disabled, expired or used up")
        warm = [c for c in usable if not self._cold(executor.id, c.id, route.model)]
        if not warm:
            return (), ("cooling_down", "every key is cooling down")
        return tuple(c.id for c in sorted(warm, key=lambda c: c.usage_count)), None

    def _cold(self, executor: UUID, credential: UUID, model: str) -> bool:
        found = self._cooldown(executor, credential, model)
        return found is not None and not found.over

    def _banned(self, executor: UUID, credential: UUID, model: str) -> bool:
        found = self._cooldown(executor, credential, model)
        return found is not None and found.until is None

    def _cooldown(self, executor: UUID, credential: UUID | None, model: str) -> CooldownView | None:
        """The one that holds longest of those that apply."""
        found = [
            cold
            for cold in self.cooldowns
            if cold.executor_id in {None, executor}
            and cold.credential_id == credential
            and cold.model in {"", model}
        ]
        return min(found, key=lambda cold: (cold.over, cold.until is not None)) if found else None


def standing_refusal(executor: ExecutorView, route: RouteView) -> tuple[str, str]:  # noqa: PLR0911 - one line a rule
    """What the operator's wish, the request and the inventory say; ("", "") = nothing against it."""
    if executor.status != "active":
        word = {"inactive": "disabled"}.get(executor.status, executor.status)
        return word, "switched off by the operator"
    if executor.name in route.avoid or (route.only and executor.name not in route.only):
        return "excluded_by_request", "the request leaves it out"
    if route.executor and route.executor != str(executor.id):
        return "excluded_by_request", "the action is bound to another executor"
    if route.region and route.region != executor.region:
        return "region_mismatch", f"it is in {executor.region or 'no region'}"
    if not set(route.tags) <= set(executor.tags):
        return "tag_mismatch", "it lacks a tag of the request"
    if str(executor.id) in route.refused:
        return "model_missing", "it said it cannot do this"
    missing = lacks(executor, route)
    return ("model_missing", missing) if missing else ("", "")


def lacks(executor: ExecutorView, route: RouteView) -> str:
    """What the inventory misses for it; "" when nothing is known to be missing."""
    if route.model and not offers(executor, route.model):
        return "model not installed"
    absent = set(route.needs) - executor.models if executor.models is not None else set()
    return f"{min(absent)} is not there" if absent else ""


def offers(executor: ExecutorView, model: str) -> bool:
    """By its last inventory. A ComfyUI server lists files: `RouteView.needs` are compared with them."""
    if executor.models is None or executor.type == "comfyui":
        return True
    wanted = {model.lower(), f"{model.lower()}:latest"}
    declared = registry.get(executor.type).declared(model)
    if declared is not None:
        wanted |= {name.lower() for name in (declared.name, *declared.aliases)}
    known = {name.lower() for name in executor.models}
    return bool(wanted & known) or any(
        name.endswith("*") and model.lower().startswith(name[:-1]) for name in known
    )


def blocked(verdicts: Sequence[Verdict], provider: str) -> tuple[str, str] | None:
    """Why nobody can serve, as (reason, sentence); None while somebody can or soon may."""
    if not verdicts:
        return "no_executor", f"no executor of provider {provider}; add one to serve this"
    waits = [v for v in verdicts if not v.hopeless and v.detail not in HARD]
    if waits:
        return None
    reason = min((v.reason for v in verdicts), key=lambda word: word == "disabled")
    details = sorted({f"{v.executor.name}: {v.detail or v.reason}" for v in verdicts})
    return reason, "nobody can serve this: " + "; ".join(details[:3])


_cached: Fleet | None = None


def current(max_age: float | None = None) -> Fleet:
    """The fleet, at most half a second old: a change is honoured everywhere well within 2 s."""
    global _cached  # noqa: PLW0603 - one snapshot per process
    age = min(0.5, config.tick_admit) if max_age is None else max_age
    if _cached is None or time.monotonic() - _cached.loaded_at > age:
        _cached = Fleet.load()
    return _cached


def forget() -> None:
    """This process has just changed an executor, a credential or a cooldown."""
    global _cached  # noqa: PLW0603
    _cached = None


EXECUTORS = """
SELECT e.id, e.name, e.type, e.dispatch, e.status, e.weight, e.max_concurrency, e.region, e.tags,
       e.known_models, e.loaded_model, e.config,
       coalesce(array_agg(l.credential_id) FILTER (WHERE l.credential_id IS NOT NULL), '{}') AS credentials
FROM admin_integrations_executor e
LEFT JOIN admin_integrations_executor_credentials l ON l.executor_id = e.id
GROUP BY e.id ORDER BY e.name
"""
CREDENTIALS = """
SELECT id, name, max_concurrency, usage_count, quota_left,
       status = 'active' AND (expire_at IS NULL OR expire_at > now()) AND quota_left IS DISTINCT FROM 0 AS usable
FROM admin_integrations_credential, LATERAL (SELECT CASE WHEN daily_quota IS NOT NULL THEN
  greatest(daily_quota - CASE WHEN used_on = (now() AT TIME ZONE 'UTC')::date THEN used_today ELSE 0 END, 0)
  END) AS quota(quota_left)
"""
COOLDOWNS = """
SELECT executor_id, credential_id, model, reason, until, coalesce(until <= now(), false) AS over, probing
FROM admin_integrations_cooldown
"""


def _executor(row: Mapping[str, Any]) -> ExecutorView:
    values = dict(row)
    models: Iterable[str] | None = values.pop("known_models")
    return ExecutorView(
        **{
            **values,
            "tags": tuple(values["tags"]),
            "credentials": tuple(values["credentials"]),
            "models": None if models is None else frozenset(models),
            "config": sql.loads(values["config"]),
        }
    )
