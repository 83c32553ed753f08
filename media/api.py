"""`/api/v1/assets` and `/assets/<key>`: reading, signing and deleting what is stored."""

from typing import Annotated, Any, ClassVar, Literal

from django.db.models import Q, QuerySet
from django.http import HttpResponseRedirect
from django.http.response import HttpResponseBase
from pydantic import BaseModel, Field
from rest_framework.request import Request
from rest_framework.response import Response

from genpulse.errors import NotFound
from genpulse.http.pagination import paginate
from genpulse.http.parsing import AwareTime, Body, Flag, Id, render_time
from genpulse.http.views import NativeView
from genpulse.ids import parse_id
from media import refs, serving, signing
from media.keys import checked
from media.models import Asset
from media.removal import purge


class AssetQuery(BaseModel):
    """Filters of the list; unknown ones are ignored, unknown words are not."""

    kind: Literal["image", "video", "audio", "text", "file"] | None = None
    content_type: str | None = None
    origin: Literal["upload", "result", "input"] | None = None
    task_id: Id | None = None
    batch_id: Id | None = None
    model: str | None = None
    tag: str | None = None
    q: str | None = Field(None, max_length=200)
    created_after: AwareTime | None = None
    created_before: AwareTime | None = None


class SignBody(Body):
    ttl: Annotated[int, Field(ge=60, le=86400)] = signing.TTL
    download: bool = False


class ContentQuery(BaseModel):
    redirect: Flag = True


def render(asset: Asset) -> dict[str, Any]:
    """The asset object, its URLs signed now."""
    shown = refs.persistable(asset)
    thumbnail = asset.thumbnail_key
    return {
        **shown,
        **refs.with_url(shown),
        "object": "asset",
        "thumbnail_url": refs.sign_thumbnail(thumbnail).url if thumbnail else None,
        "origin": asset.origin,
        "task_id": asset.task_id and str(asset.task_id),
        "batch_id": asset.batch_id and str(asset.batch_id),
        "index": asset.index,
        "provenance": asset.provenance,
        "tags": asset.tags,
        "metadata": asset.metadata,
        "user": asset.account.name,
        "created_at": render_time(asset.created_at),
        "expires_at": render_time(asset.expires_at),
    }


def living() -> QuerySet[Asset]:
    return Asset.objects.filter(deleted_at__isnull=True).select_related("account")


def chosen(assets: QuerySet[Asset], query: AssetQuery) -> QuerySet[Asset]:
    """`assets` narrowed by the filters that were given."""
    wanted = {
        "kind": query.kind,
        "content_type": query.content_type,
        "origin": query.origin,
        "task_id": query.task_id,
        "batch_id": query.batch_id,
        "provenance__model": query.model,
        "tags__contains": [query.tag] if query.tag is not None else None,
        "created_at__gt": query.created_after,
        "created_at__lt": query.created_before,
    }
    assets = assets.filter(**{name: value for name, value in wanted.items() if value is not None})
    if query.q:
        words = Q(filename__icontains=query.q) | Q(provenance__prompt__icontains=query.q)
        assets = assets.filter(words)
    return assets


class AssetView(NativeView):
    """What the views of one asset share."""

    def found(self, asset_id: str) -> Asset:
        """Raises NotFound for an id that is unknown, another owner's, or no id at all."""
        known = parse_id(asset_id)
        asset = self.visible(living()).filter(id=known).first() if known else None
        if asset is None:
            raise NotFound
        return asset


class Assets(NativeView):
    scopes = {"GET": "media:read"}
    queries = {"GET": AssetQuery}

    def get(self, request: Request) -> Response:
        """List stored files, newest first."""
        assets = chosen(self.listed(living()), self.query(AssetQuery))
        return Response(paginate(assets, request.query_params, render))


class OneAsset(AssetView):
    scopes = {"GET": "media:read", "DELETE": "media"}
    statuses = {"DELETE": 204}

    def get(self, request: Request, asset_id: str) -> Response:
        """One stored file, with a URL signed now."""
        return Response(render(self.found(asset_id)))

    def delete(self, request: Request, asset_id: str) -> Response:
        """Delete a file; its signed URLs end."""
        purge([self.found(asset_id)])
        return Response(status=204)


class AssetContent(AssetView):
    scopes = {"GET": "media:read"}
    queries = {"GET": ContentQuery}
    statuses = {"GET": 302}

    def get(self, request: Request, asset_id: str) -> HttpResponseBase:
        """The bytes: a redirect to a signed URL, or with `redirect=0` here."""
        asset = self.found(asset_id)
        if self.query(ContentQuery).redirect:
            return HttpResponseRedirect(refs.sign(asset).url)
        return serving.serve(serving.original(asset), request.method or "GET", request.headers)


class AssetSign(AssetView):
    scopes = {"POST": "media:read"}
    bodies = {"POST": SignBody}

    def post(self, request: Request, asset_id: str) -> Response:
        """A URL that serves the bytes to anybody for `ttl` seconds."""
        asset, body = self.found(asset_id), self.parse(SignBody)
        signed = refs.sign(asset, body.ttl, body.download)
        return Response({"url": signed.url, "expires_at": render_time(signed.expires_at)})


class SignedBytes(NativeView):
    """The signature is the credential; it is judged before anything is looked up."""

    public: ClassVar[bool] = True

    def get(self, request: Request, key: str) -> HttpResponseBase:
        """The bytes of a signed URL; ranges are supported."""
        download = signing.verify("read", key, request.query_params.dict())
        shown = self._shown(checked(key))
        return serving.serve(shown, request.method or "GET", request.headers, download)

    @staticmethod
    def _shown(key: str) -> serving.Shown:
        asset = living().filter(Q(key=key) | Q(thumbnail_key=key)).first()
        if asset is None:
            raise NotFound
        return serving.original(asset) if asset.key == key else serving.small(asset)
