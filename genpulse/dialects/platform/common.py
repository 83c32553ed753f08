"""Names, numbers and refusals that the platform's doors share."""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from genpulse.dialects import envelopes
from genpulse.errors import Problem, UnknownPath
from genpulse.http.problems import Envelope
from genpulse.http.views import DoorView
from genpulse.money import MICRO

M = TypeVar("M", bound=BaseModel)
Points = Annotated[int, Field(ge=1, le=1_000_000_000, strict=True)]
Id = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class PlatformBody(BaseModel):
    """Both spellings of a name are taken; names we do not know are ignored."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True, alias_generator=to_camel)


class Owned(PlatformBody):
    """A body or query that names the user it is about."""

    user_id: str | None = None


class PlatformDoor(DoorView):
    takes_anonymous = True

    def read(self, model: type[M]) -> M:
        """The body; acts for the user it names."""
        body = self.parse(model)
        self.act_for(getattr(body, "user_id", None), "userId")
        return body

    def asked(self, model: type[M]) -> M:
        """The query; reads for the user it names."""
        query = self.query(model)
        self.act_for(getattr(query, "user_id", None), "userId")
        return query


def points(micro: int) -> int | float:
    """A JSON number of credits: an integer when whole."""
    whole, rest = divmod(micro, MICRO)
    return micro / MICRO if rest else whole


def envelope(words: dict[str, str]) -> Envelope:
    """The platform's envelope with some codes by other words."""

    def code_of(problem: Problem) -> str:
        if isinstance(problem, UnknownPath):
            return envelopes.platform_code(problem)
        return words.get(problem.code) or envelopes.platform_code(problem)

    return envelopes.detail(code_of)


WALLET: dict[str, str] = {
    "insufficient_credits": "WALLET_INSUFFICIENT",
    "hold_conflict": "WALLET_HOLD_CONFLICT",
    "hold_already_resolved": "WALLET_HOLD_CONFLICT",
}
wallet_envelope = envelope({**WALLET, "not_found": "WALLET_HOLD_NOT_FOUND"})
task_envelope = envelope({**WALLET, "not_found": "TASK_NOT_FOUND"})


def page_of(rows: Any, page: int, size: int) -> list[Any]:
    """`page` counts from 0."""
    return list(rows[page * size : (page + 1) * size])
