"""Bodies of this dialect: JSON or a form, and files that become input assets."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, BinaryIO, TypeAlias, cast
from uuid import UUID

from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.http import QueryDict
from pydantic import BeforeValidator
from rest_framework.parsers import FormParser, MultiPartParser

from genpulse.config import config
from genpulse.dialects.doors import DialectDoor
from genpulse.errors import BodyTooLarge, FieldError, MediaRejected, ValidationFailed
from genpulse.http import idempotency, strict_json
from genpulse.http.strict_json import StrictJSONParser
from media import services as media

MOST_FILES = 16
NESTED = re.compile(r"(\w+)\[(\w*)\]")
SCALAR = re.compile(r"-?\d+(\.\d+)?|true|false|null")
File: TypeAlias = "UploadedFile[Any]"


def _object(value: Any) -> Any:
    """In a form an object is JSON text, or one field for each member whose scalars are texts too."""
    if isinstance(value, str):
        return strict_json.loads(value.encode())
    return value


def _scalars(value: Any) -> Any:
    found = _object(value)
    if not isinstance(found, dict):
        return found
    return {
        name: strict_json.loads(f'{{"it":{text}}}'.encode())["it"]
        if isinstance(text, str) and SCALAR.fullmatch(text)
        else text
        for name, text in found.items()
    }


FormObject = Annotated[dict[str, Any] | None, BeforeValidator(_object)]
FormControls = Annotated[dict[str, Any] | None, BeforeValidator(_scalars)]


def members(form: QueryDict) -> dict[str, Any]:
    """A form as the JSON object it stands for: `name[]` is a list, `name[key]` an object, empty texts are nothing."""
    found: dict[str, Any] = {}
    for name in form:
        texts = [str(text) for text in form.getlist(name) if text != ""]
        for text in (name, *texts):
            strict_json.storable(name, text)
        match = NESTED.fullmatch(name)
        if not texts:
            continue
        if match is None:
            found[name] = texts[-1]
        elif not match[2]:
            found[match[1]] = texts
        else:
            inner = found.get(match[1])
            found[match[1]] = {**(inner if isinstance(inner, dict) else {}), match[2]: texts[-1]}
    return found


class FormDoor(DialectDoor):
    """A door that takes files. Those of one request are stored before its task, and go when there will be none."""

    parser_classes = [MultiPartParser, FormParser]
    stored: Sequence[media.Asset] = ()

    @property
    def is_form(self) -> bool:
        kind = self.request.content_type or "application/json"
        return not kind.startswith("application/json")

    @property
    def body(self) -> dict[str, Any]:
        if not self.is_form:
            return super().body
        data = self.request.data
        return members(self.request.POST) if isinstance(data, QueryDict) else {}

    def files(self, name: str, most: int = MOST_FILES) -> list[File]:
        """The files sent as `name` or `name[]`. Raises ValidationFailed, BodyTooLarge."""
        if not self.is_form:
            return []
        sent = self.request.FILES
        found: list[File] = [file for key in (name, f"{name}[]") for file in sent.getlist(key)]
        if len(found) > most:
            raise ValidationFailed.of(name, "too_long", f"at most {most} files")
        if any((file.size or 0) > config.max_upload_bytes for file in found):
            raise BodyTooLarge(
                f"At most {config.max_upload_bytes} bytes a file.", limit=config.max_upload_bytes
            )
        return found

    def scope(self) -> idempotency.Scope | None:
        """Files count by their content."""
        key = idempotency.key_of(self.request.headers, {})
        if key is None:
            return None
        hashes = [(asset.filename, bytes.fromhex(asset.sha256)) for asset in self.stored]
        return idempotency.Scope(
            owner=self.user.name,
            route=f"{self.request.method} {self.request.path_info}",
            key=key,
            fingerprint=idempotency.fingerprint(self.body, hashes),
        )

    @contextmanager
    def keeping(self, files: Mapping[str, Sequence[File]]) -> Iterator[list[media.Asset]]:
        """Files by field as input assets; unless `kept` is said inside the block, they are gone after it."""
        self.stored = []
        try:
            for name, sent in files.items():
                self.stored = [*self.stored, *(self._store(name, file) for file in sent)]
            yield list(self.stored)
        finally:
            if self.stored:
                with transaction.atomic():
                    media.purge(self.stored)

    def kept(self) -> None:
        """The task that names the files is written."""
        self.stored = ()

    def _store(self, name: str, file: File) -> media.Asset:
        try:
            with transaction.atomic():
                return media.store(
                    self.account.id,
                    cast("BinaryIO", file.file),
                    filename=file.name,
                    content_type=file.content_type,
                    origin="input",
                )
        except MediaRejected as problem:
            item = FieldError(name, "format", problem.detail)
            raise MediaRejected(f"{name}: {problem.detail}", errors=[item]) from None


class MixedDoor(FormDoor):
    """JSON is welcome too."""

    parser_classes = [StrictJSONParser, MultiPartParser, FormParser]


def named(assets: Sequence[media.Asset]) -> list[str]:
    """As a task's input names them."""
    return [f"asset:{asset.id}" for asset in assets]


def file_id(id_: UUID) -> str:
    return f"file-{id_.hex}"


def asset_of(text: str) -> str:
    """`file-<32 hex>` -> `asset:<id>`; what is no such id is unknown, and says so where it is resolved."""
    word = text.removeprefix("file-")
    return f"asset:{UUID(hex=word)}" if re.fullmatch(r"[0-9a-f]{32}", word) else f"asset:{word}"
