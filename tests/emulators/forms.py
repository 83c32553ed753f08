"""Multipart requests, taken apart."""

from dataclasses import dataclass
from email import policy
from email.parser import BytesParser
from typing import Any

from tests.emulators.base import Request


@dataclass(frozen=True)
class Part:
    content: bytes
    filename: str | None
    content_type: str

    @property
    def text(self) -> str:
        return self.content.decode()


def form_of(request: Request) -> dict[str, list[Part]]:
    """The parts of a multipart request by name."""
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    message = BytesParser(policy=policy.HTTP).parsebytes(head + request.body)
    found: dict[str, list[Part]] = {}
    for part in message.iter_parts():
        name = str(part.get_param("name", header="content-disposition"))
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        found.setdefault(name, []).append(
            Part(content, part.get_filename(), part.get_content_type())
        )
    return found


def inputs_of(request: Request) -> dict[str, Any]:
    """Fields of a JSON or multipart request, texts as texts."""
    if "json" in request.headers.get("content-type", ""):
        return dict(request.json)
    return {
        name: parts[0].text if parts[0].filename is None else parts
        for name, parts in form_of(request).items()
    }
