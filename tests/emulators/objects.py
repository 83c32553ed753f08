"""An object store: what S3 and OSS have in common, with the bucket in the path, and form uploads."""

import base64
import json
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any
from urllib.parse import unquote

from tests.emulators.base import Answer, Emulator, Request, Response, as_fixture, route


class ObjectStore(Emulator):
    """Keys and bytes of all buckets; `types` has their content types."""

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, bytes] = {}
        self.types: dict[str, str] = {}

    @route("PUT", "/bucket/{key*}")
    def put(self, request: Request, key: str) -> Answer:
        for header in ("x-amz-copy-source", "x-oss-copy-source"):
            if header in request.headers:
                return self._copy(unquote(request.headers[header]).lstrip("/"), key)
        self.objects[key] = request.body
        self.types[key] = request.headers.get("content-type", "")
        return Response(headers={"ETag": '"1"'})

    def _copy(self, source: str, key: str) -> Answer:
        old = source.partition("/")[2]
        if old not in self.objects:
            return missing()
        self.objects[key], self.types[key] = self.objects[old], self.types[old]
        result = "<CopyObjectResult><ETag>1</ETag><LastModified>2026-01-01T00:00:00.000Z</LastModified></CopyObjectResult>"
        return Response(200, result, {"Content-Type": "application/xml", "ETag": '"1"'})

    @route("GET", "/bucket/{key*}")
    def get(self, request: Request, key: str) -> Answer:
        if key not in self.objects:
            return missing()
        headers = {"Content-Type": self.types[key], "ETag": '"1"'}
        for name in ("content-type", "content-disposition"):
            if f"response-{name}" in request.query:
                headers[name.title()] = request.query[f"response-{name}"][0]
        return Response(200, self.objects[key], headers)

    @route("HEAD", "/bucket/{key*}")
    def head(self, request: Request, key: str) -> Answer:
        if key not in self.objects:
            return Response(404, headers={"Content-Length": "0", "x-oss-request-id": "1"})
        length = str(len(self.objects[key]))
        return Response(
            200,
            b"",
            {
                "Content-Length": length,
                "ETag": '"1"',
                "Last-Modified": "Sat, 21 Nov 2026 10:00:00 GMT",
            },
        )

    @route("DELETE", "/bucket/{key*}")
    def delete(self, request: Request, key: str) -> Answer:
        self.objects.pop(key, None)
        return Response(204)

    @route("POST", "/bucket/?")
    def form(self, request: Request) -> Answer:
        fields = form_of(request)
        policy: Any = json.loads(base64.b64decode(fields["policy"]))
        data = fields.pop("file")
        for condition in policy["conditions"]:
            is_range = isinstance(condition, list) and condition[0] == "content-length-range"
            if is_range and not condition[1] <= len(data) <= condition[2]:
                return Response(400, "<Error><Code>EntityTooLarge</Code></Error>")
        key = fields["key"].decode()
        self.objects[key], self.types[key] = data, fields["Content-Type"].decode()
        return Response(204)


def missing() -> Response:
    return Response(
        404,
        "<Error><Code>NoSuchKey</Code><Message>none</Message></Error>",
        {"Content-Type": "application/xml"},
    )


def form_of(request: Request) -> dict[str, bytes]:
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    message: Any = BytesParser(policy=HTTP).parsebytes(head + request.body)
    return {
        part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
        for part in message.iter_parts()
    }


object_store = as_fixture(ObjectStore)
