"""`/api/v1/prices`: the price rules."""

from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from pydantic import AfterValidator, Field, StringConstraints
from rest_framework.request import Request
from rest_framework.response import Response

from genpulse.errors import NotFound, ValidationFailed
from genpulse.http.idempotency import Answer
from genpulse.http.pagination import paginate
from genpulse.http.parsing import Body, Id, MoneyMicro, wrong
from genpulse.http.views import NativeView
from genpulse.ids import parse_id
from genpulse.money import to_credits
from wallet import rules
from wallet.models import PriceRule

Unit = Literal[
    "call",
    "image",
    "second",
    "1k_input_tokens",
    "1k_output_tokens",
    "1k_characters",
    "megapixel",
]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Component(Body):
    unit: Unit
    price: Annotated[MoneyMicro, Field(ge=0)]


def _once_each(components: list[Component]) -> list[Component]:
    units = [component.unit for component in components]
    if len(set(units)) < len(units):
        raise wrong("unique", "each unit at most once")
    return components


class Match(Body):
    """Exactly one of the three names; `task_type` narrows it."""

    model: Name | None = None
    ability: Name | None = None
    provider: Name | None = None
    task_type: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,31}$")] | None = None

    def target(self) -> tuple[str, str]:
        """`(match_by, match_value)`. Raises ValidationFailed."""
        names = {"model": self.model, "ability": self.ability, "provider": self.provider}
        given = [(by, name) for by, name in names.items() if name is not None]
        if not given:
            raise ValidationFailed.of("match.model", "required", "name what the rule is for")
        if len(given) > 1:
            second = given[1][0]
            raise ValidationFailed.of(f"match.{second}", "exclusive", "name one thing only")
        return given[0]


class PriceBody(Body):
    """A price rule; `id` may stand in it, as it does in answers, and changes nothing."""

    id: Id | None = None
    kind: Literal["sale", "cost"] = "sale"
    match: Match
    components: Annotated[
        list[Component], Field(min_length=1, max_length=7), AfterValidator(_once_each)
    ]
    minimum: Annotated[MoneyMicro, Field(ge=0)] = 0
    enabled: bool = True

    def columns(self) -> dict[str, Any]:
        match_by, match_value = self.match.target()
        return {
            "kind": self.kind,
            "match_by": match_by,
            "match_value": match_value,
            "task_type": self.match.task_type or "",
            "components": [
                {"unit": part.unit, "price": to_credits(part.price)} for part in self.components
            ],
            "minimum": self.minimum,
            "enabled": self.enabled,
        }


def render(rule: PriceRule) -> dict[str, Any]:
    match = {rule.match_by: rule.match_value}
    if rule.task_type:
        match["task_type"] = rule.task_type
    return {
        "id": str(rule.rule_id),
        "kind": rule.kind,
        "match": match,
        "components": rule.components,
        "minimum": to_credits(rule.minimum),
        "enabled": rule.enabled,
    }


def current() -> QuerySet[PriceRule]:
    return PriceRule.objects.filter(current=True)


class Prices(NativeView):
    scopes: ClassVar[dict[str, str]] = {"GET": "wallet:read", "POST": "admin"}

    @extend_schema(operation_id="list_prices")
    def get(self, request: Request) -> Response:
        return Response(paginate(current(), request.query_params, render))

    @extend_schema(operation_id="create_price", request=PriceBody)
    def post(self, request: Request) -> Response:
        return self.reply(self.once(self._create))

    def _create(self) -> Answer:
        rule = rules.create(self.parse(PriceBody).columns())
        return Answer(status=201, body=render(rule))


class OnePrice(NativeView):
    scopes: ClassVar[dict[str, str]] = {"GET": "wallet:read", "PUT": "admin", "DELETE": "admin"}

    @staticmethod
    def known(price_id: str) -> UUID:
        """Raises NotFound for a text that is no id."""
        rule_id = parse_id(price_id)
        if rule_id is None:
            raise NotFound
        return rule_id

    @extend_schema(operation_id="get_price")
    def get(self, request: Request, price_id: str) -> Response:
        rule = current().filter(rule_id=self.known(price_id)).first()
        if rule is None:
            raise NotFound
        return Response(render(rule))

    @extend_schema(operation_id="replace_price", request=PriceBody)
    def put(self, request: Request, price_id: str) -> Response:
        columns = self.parse(PriceBody).columns()
        return Response(render(rules.replace(self.known(price_id), columns)))

    @extend_schema(operation_id="delete_price")
    def delete(self, request: Request, price_id: str) -> Response:
        rules.delete(self.known(price_id))
        return Response(status=204)
