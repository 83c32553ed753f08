"""`/files`: uploads that requests name by `file_id` or `asset:<id>`."""

from collections.abc import Sequence
from typing import Any, ClassVar, cast
from uuid import UUID

from django.db.models import QuerySet
from django.http.response import HttpResponseBase
from pydantic import BaseModel, ConfigDict, Field
from rest_framework.request import Request
from rest_framework.response import Response

from genpulse.dialects.openai.forms import FormDoor, file_id
from genpulse.dialects.openai.pages import PageIn, hex_id, page
from genpulse.errors import NotFound, PermissionDenied, ValidationFailed
from genpulse.http.idempotency import Answer
from media import services as media

ANY = "user_data"


class FileIn(BaseModel):
    """POST /openai/v1/files, beside `file`."""

    model_config = ConfigDict(extra="ignore")

    purpose: str = Field(min_length=1, max_length=64)


class FilesIn(PageIn):
    purpose: str | None = None


class FileDoor(FormDoor):
    scopes: ClassVar[dict[str, str]] = {"GET": "media:read", "POST": "media", "DELETE": "media"}

    def file(self, id_: str) -> media.Asset:
        """Raises NotFound."""
        key = hex_id(id_, "file-")
        found = self.visible(living()).filter(pk=key).first() if key else None
        if found is None:
            raise NotFound(f"There is no file {id_!r}.")
        return found


class Files(FileDoor):
    """Files of this user."""

    bodies = {"POST": FileIn}
    queries = {"GET": FilesIn}

    def get(self, request: Request) -> Response:
        """List uploaded files."""
        asked = self.query(FilesIn)
        files = self.listed(living().filter(origin="upload"))
        if asked.purpose:
            files = files.filter(metadata__purpose=asked.purpose)
        return Response(page(files, asked, file_id_of, shown))

    def post(self, request: Request) -> HttpResponseBase:
        """Upload a file."""
        if self.account.uploads_blocked:
            raise PermissionDenied("Uploads are blocked for this user.")
        sent, asked = self.files("file", 1), self.parse(FileIn)
        if not sent:
            raise ValidationFailed.of("file", "required", "send the file as `file`")
        with self.keeping({"file": sent}) as [asset]:
            answer = self.once(lambda: self._create(asset, asked.purpose))
            if not answer.replayed:
                self.kept()
        return self.reply(answer)

    @staticmethod
    def _create(asset: media.Asset, purpose: str) -> Answer:
        asset.origin, asset.metadata = "upload", {"purpose": purpose}
        asset.save(update_fields=["origin", "metadata"])
        return Answer(status=200, body=shown([asset])[0], object_id=asset.id)


class OneFile(FileDoor):
    """An uploaded file."""

    def get(self, request: Request, id_: str) -> Response:
        """What is known of it."""
        return Response(shown([self.file(id_)])[0])

    def delete(self, request: Request, id_: str) -> Response:
        """Delete it."""
        media.purge([self.file(id_)])
        return Response({"id": id_, "object": "file", "deleted": True})


class FileContent(FileDoor):
    """Its bytes."""

    def get(self, request: Request, id_: str) -> HttpResponseBase:
        """Download it; ranges are supported."""
        file = media.original(self.file(id_))
        return media.serve(file, request.method or "GET", request.headers)


def living() -> QuerySet[media.Asset]:
    return media.Asset.objects.filter(deleted_at=None)


def file_id_of(text: str) -> UUID | None:
    return hex_id(text, "file-")


def shown(assets: Sequence[media.Asset]) -> list[dict[str, Any]]:
    """The file objects."""
    return [
        {
            "id": file_id(asset.id),
            "object": "file",
            "bytes": asset.size,
            "created_at": int(asset.created_at.timestamp()),
            "filename": asset.filename,
            "purpose": cast("dict[str, Any]", asset.metadata).get("purpose", ANY),
            "status": "processed",
        }
        for asset in assets
    ]
