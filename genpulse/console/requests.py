"""What the form asks for, as the API call that asks for the same: the console sends it, and shows it."""

import json
import shlex
from typing import Any

from django.http import QueryDict
from pydantic import Field

from genpulse.errors import ValidationFailed
from genpulse.http.parsing import Body, parse
from tasks import catalogue
from tasks.requests import MAX_MODELS, ModelName

LONGEST_PROMPT = 100_000
EXAMPLE = "a red kite over the sea"


class Wish(Body):
    """The form: one prompt for one model, or for several side by side."""

    prompt: str = Field(min_length=1, max_length=LONGEST_PROMPT)
    models: list[ModelName] = Field(min_length=1, max_length=MAX_MODELS)

    @property
    def is_batch(self) -> bool:
        return len(self.models) > 1

    @property
    def path(self) -> str:
        return "/api/v1/batches" if self.is_batch else "/api/v1/tasks"

    @property
    def body(self) -> dict[str, Any]:
        """What `path` takes."""
        target = {"models": self.models} if self.is_batch else {"model": self.models[0]}
        body: dict[str, Any] = {**target, "input": {"prompt": self.prompt}}
        return {**body, "stream": True} if any(map(_writes, self.models)) else body

    def curl(self, base: str) -> str:
        """The same for a shell; `base` without a slash at its end."""
        return " \\\n  ".join(
            (
                f"curl {shlex.quote(base + self.path)}",
                '-H "Authorization: Bearer $GENPULSE_KEY"',
                "-H 'Content-Type: application/json'",
                f"-d {shlex.quote(json.dumps(self.body, ensure_ascii=False))}",
            )
        )


def _writes(model: str) -> bool:
    """Whether text may be seen while it is written."""
    entry = catalogue.find(model)
    return entry is not None and entry.types[0] == "chat"


def read(form: QueryDict, *, example: bool = False) -> Wish:
    """Raises ValidationFailed. `example`: an empty prompt becomes one that can be shown."""
    prompt, models = form.get("prompt", "").strip(), list(dict.fromkeys(form.getlist("models")))
    if not models:
        raise ValidationFailed.of("models", "required", "choose at least one model")
    if not prompt and not example:
        raise ValidationFailed.of("prompt", "required", "write what you want to have")
    return parse(Wish, {"prompt": prompt or EXAMPLE, "models": models})
