"""`/api/v1/media`: sending files, in one request or in the three steps of `media.uploads`."""

import json
from contextlib import suppress
from typing import Annotated, Any, BinaryIO, ClassVar, cast
from uuid import UUID

from django.core.files.uploadedfile import UploadedFile
from django.db import IntegrityError, transaction
from pydantic import Field
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from genpulse.config import config
from genpulse.errors import BodyTooLarge, FieldCode, NotFound, PermissionDenied, ValidationFailed
from genpulse.http import idempotency, strict_json
from genpulse.http.idempotency import Answer
from genpulse.http.parsing import Body, parse, render_time
from genpulse.http.views import NativeView
from genpulse.ids import parse_id
from media import signing, uploads
from media.api import living, render
from media.assets import discard, insert, prepare
from media.models import Asset, Origin, Upload

Tag = Annotated[str, Field(min_length=1, max_length=64)]
METADATA_BYTES = 8 << 10
MOST_FILES = 16


class MediaForm(Body):
    """The fields beside the file; each is JSON text in the form."""

    tags: Annotated[list[Tag], Field(max_length=10)] = []
    metadata: dict[str, Any] = {}


class UploadBody(Body):
    filename: Annotated[str, Field(min_length=1, max_length=255)]
    content_type: Annotated[str, Field(max_length=100, pattern=r"^[\w.+-]+/[\w.+-]+$")]
    size: Annotated[int, Field(ge=1)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None


def rendered(asset_id: UUID) -> dict[str, Any]:
    """The asset as it is now; nothing when it was deleted since."""
    asset = living().filter(id=asset_id).first()
    return render(asset) if asset else {}


def refuse_blocked(view: NativeView) -> None:
    if view.account.uploads_blocked:
        raise PermissionDenied("Uploads are blocked for this user.")


class Media(NativeView):
    """multipart/form-data with `file`, and as JSON texts `tags` and `metadata`."""

    scopes = {"POST": "media"}
    bodies = {"POST": MediaForm}
    statuses = {"POST": 201}
    parser_classes = [MultiPartParser]

    def post(self, request: Request) -> Response:
        """Upload one file."""
        refuse_blocked(self)
        file, form = self._file(), self._form()
        asset = prepare(
            self.account.id,
            cast("BinaryIO", file.file),
            filename=file.name,
            content_type=file.content_type,
            origin=Origin.UPLOAD,
            tags=form.tags,
            metadata=form.metadata,
        )
        try:
            answer = self._once(asset, form)
        except BaseException:
            discard([asset])
            raise
        if answer.object_id != asset.id:
            discard([asset])
        return self.reply(answer)

    def _once(self, asset: Asset, form: MediaForm) -> Answer:
        key = idempotency.key_of(self.request.headers, {})
        scope = key and idempotency.Scope(
            owner=self.user.name,
            route=f"{self.request.method} {self.request.path_info}",
            key=key,
            fingerprint=idempotency.fingerprint(
                {**form.model_dump(), "filename": asset.filename},
                [("file", bytes.fromhex(asset.sha256))],
            ),
        )
        return idempotency.idempotent(
            scope or None, create=lambda: self._create(asset), refresh=rendered
        )

    def _create(self, asset: Asset) -> Answer:
        # Only now: a user named for the first time is made in this transaction.
        asset.account = self.account
        insert(asset)
        return Answer(status=201, body=render(asset), object_id=asset.id)

    def _file(self) -> "UploadedFile[Any]":
        """The one file of the form. Raises ValidationFailed, BodyTooLarge."""
        files = self.request.FILES
        sent = [file for name in files for file in files.getlist(name)]
        if len(sent) > MOST_FILES:
            raise ValidationFailed.of("file", "too_long", f"at most {MOST_FILES} files")
        for name in set(files) - {"file"}:
            raise ValidationFailed.of(name, "unknown", "send the file as `file`")
        if len(sent) != 1:
            code: FieldCode = "exclusive" if sent else "required"
            raise ValidationFailed.of("file", code, "send exactly one file")
        file: UploadedFile[Any] = sent[0]
        if (file.size or 0) > config.max_upload_bytes:
            raise BodyTooLarge(
                f"At most {config.max_upload_bytes} bytes.", limit=config.max_upload_bytes
            )
        return file

    def _form(self) -> MediaForm:
        fields: dict[str, Any] = {}
        for name, text in self.request.POST.items():
            try:
                fields[name] = json.loads(str(text))
            except (ValueError, RecursionError):
                raise ValidationFailed.of(name, "format", "want JSON") from None
        form = parse(MediaForm, strict_json.loads(json.dumps(fields).encode()))
        if len(json.dumps(form.metadata)) > METADATA_BYTES:
            raise ValidationFailed.of("metadata", "too_long", f"at most {METADATA_BYTES} bytes")
        return form


class Uploads(NativeView):
    """The answer says where and how to send it; a file that is stored already is answered with 200."""

    scopes = {"POST": "media"}
    bodies = {"POST": UploadBody}
    statuses = {"POST": 201}

    def post(self, request: Request) -> Response:
        """Announce a file."""
        refuse_blocked(self)
        body = self.parse(UploadBody)
        if body.size > config.max_upload_bytes:
            raise BodyTooLarge(
                f"At most {config.max_upload_bytes} bytes.", limit=config.max_upload_bytes
            )
        same = uploads.known(self.account.id, (body.sha256 or "").lower())
        if same is not None:
            return Response({"asset": render(same)})
        return self.reply(self.once(lambda: self._create(body), self._render))

    def _create(self, body: UploadBody) -> Answer:
        upload = uploads.announce(
            self.account.id,
            filename=body.filename,
            content_type=body.content_type.lower(),
            size=body.size,
            sha256=(body.sha256 or "").lower(),
        )
        return Answer(status=201, body=self._render(upload.id), object_id=upload.id)

    @staticmethod
    def _render(upload_id: UUID) -> dict[str, Any]:
        upload = Upload.objects.filter(id=upload_id).first()
        if upload is None:
            return {}
        method, form = uploads.where_to(upload)
        return {
            "upload_id": str(upload.id),
            "method": method,
            "url": form.url,
            "headers": {"Content-Type": upload.content_type} if method == "PUT" else {},
            "fields": form.fields,
            "expires_at": render_time(upload.expires_at),
            "finalize_url": f"/api/v1/media/uploads/{upload.id}/finalize",
        }


class UploadContent(NativeView):
    """The PUT of the signed URL; the signature is the credential."""

    public: ClassVar[bool] = True
    parser_classes = []
    statuses = {"PUT": 204}

    def put(self, request: Request, upload_id: str) -> Response:
        """Send the bytes of an announced file."""
        signing.verify("upload", upload_id, request.query_params.dict())
        known = parse_id(upload_id)
        upload = Upload.objects.filter(id=known).first() if known else None
        if upload is None:
            raise NotFound
        uploads.receive(upload, request.stream)
        return Response(status=204)


class UploadFinalize(NativeView):
    """A second call answers the same asset with 200."""

    scopes = {"POST": "media"}
    statuses = {"POST": 201}

    def post(self, request: Request, upload_id: str) -> Response:
        """Check what was sent and make it an asset."""
        known = parse_id(upload_id)
        if known is None:
            raise NotFound
        asset = self.visible(living()).filter(id=known, origin=Origin.UPLOAD).first()
        if asset is None:
            asset = uploads.verified(self._upload(known))
        return self.reply(self.once(lambda: self._create(asset), rendered))

    def _upload(self, upload_id: UUID) -> Upload:
        upload = self.visible(Upload.objects.all()).filter(id=upload_id).first()
        if upload is None:
            raise NotFound
        return upload

    @staticmethod
    def _create(asset: Asset) -> Answer:
        """201 for whoever inserts the row, 200 for everybody else: the id is the upload's."""
        status = 200
        if asset._state.adding:
            with suppress(IntegrityError), transaction.atomic():
                insert(asset)
                status = 201
        return Answer(status=status, body=rendered(asset.id), object_id=asset.id)
