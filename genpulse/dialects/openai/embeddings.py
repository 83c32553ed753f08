"""`POST /embeddings`."""

import base64
import struct
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from django.http.response import HttpResponseBase
from pydantic import BeforeValidator, Field
from rest_framework.request import Request
from rest_framework.response import Response

from genpulse.dialects.doors import Shown
from genpulse.dialects.openai.doors import Asked, OpenAIDoor, tokens
from genpulse.http.parsing import wrong

MOST = 256


def _texts(value: Any) -> Any:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list):
        raise wrong("type", "want a text or a list of texts")
    if any(isinstance(item, (int, list)) for item in texts):
        raise wrong("choice", "tokens are not supported; send texts")
    if not texts or not all(texts):
        raise wrong("empty", "must not be empty")
    if len(texts) > MOST:
        raise wrong("too_long", f"at most {MOST} texts")
    return texts


class EmbeddingIn(Asked):
    """POST /openai/v1/embeddings."""

    input: Annotated[list[str], BeforeValidator(_texts)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = None


class Embeddings(OpenAIDoor):
    """Texts as vectors."""

    names: ClassVar[Mapping[str, str]] = {"texts": "input"}
    bodies = {"POST": EmbeddingIn}

    def post(self, request: Request) -> HttpResponseBase:
        """Embed texts."""
        asked = self.parse(EmbeddingIn)
        given = {"texts": asked.input, "dimensions": asked.dimensions}
        answer = self.make(self.wish(asked, "embedding", given))
        packed = asked.encoding_format == "base64"
        return self.finished(answer, lambda found: Response(embeddings(found, packed=packed)))


def embeddings(found: Shown, *, packed: bool) -> dict[str, Any]:
    data = (found.object["output"] or {}).get("data") or {}
    usage = tokens(found.object["usage"])
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": floats(vector) if packed else vector,
            }
            for index, vector in enumerate(data.get("embeddings", []))
        ],
        "model": found.object["model"],
        "usage": {name: usage[name] for name in ("prompt_tokens", "total_tokens")},
    }


def floats(vector: Sequence[float]) -> str:
    """Little-endian float32 in base64."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
