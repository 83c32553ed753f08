"""`/videos`: made in the background, read until they are finished."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from django.http.response import HttpResponseBase
from pydantic import BaseModel, BeforeValidator, Field
from rest_framework.request import Request
from rest_framework.response import Response

from genpulse.config import config
from genpulse.dialects.doors import VIDEO_TYPES, Shown, Wish, shown
from genpulse.dialects.openai.doors import Asked, OpenAIDoor, Words, task_of
from genpulse.dialects.openai.failures import of_end
from genpulse.dialects.openai.forms import FormObject, MixedDoor, asset_of, named
from genpulse.dialects.openai.pages import PageIn, hex_id, page
from genpulse.errors import NotFound, Purged, ValidationFailed
from genpulse.http.parsing import wrong
from media import services as media
from tasks import catalogue, verbs
from tasks.models import TERMINAL, Status, Task

DEFAULTS = {"duration": 4, "size": "720x1280"}
LONGEST = 3600
POLL = {"openai-poll-after-ms": "1000"}
WAITING = {Status.QUEUED, Status.BLOCKED, Status.ADMITTED}


def _seconds(value: Any) -> Any:
    """Texts here, numbers in a task's input; whole ones as such, as some models count in steps."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise wrong("type", "want a number of seconds") from None
    if not 0 < number <= LONGEST:
        raise wrong("choice", f"want at most {LONGEST} seconds")
    return int(number) if number.is_integer() else number


class VideoIn(Asked):
    """POST /openai/v1/videos."""

    model: str = Field(default_factory=lambda: config.default_video_model, max_length=200)
    prompt: Words
    seconds: Annotated[int | float | None, BeforeValidator(_seconds)] = None
    size: str | None = None
    input_reference: FormObject = None


class RemixIn(BaseModel):
    """POST /openai/v1/videos/{id}/remix."""

    prompt: Words


class ContentIn(BaseModel):
    variant: Literal["video", "thumbnail", "spritesheet"] = "video"


class VideoDoor(OpenAIDoor):
    names: ClassVar[Mapping[str, str]] = {"duration": "seconds", "images": "input_reference"}

    def video(self, id_: str) -> Shown:
        """Raises NotFound, also for a task that is no video."""
        key = hex_id(id_, "video_")
        found = self.one(str(key)) if key else None
        if found is None or found.row.task_type not in VIDEO_TYPES:
            raise NotFound(f"There is no video {id_!r}.")
        return found

    def started(self, wish: Wish) -> HttpResponseBase:
        answer = self.make(wish)
        response = Response(video(self.again(task_of(answer))), headers=POLL)
        return self.labelled(response, answer)


class Videos(MixedDoor, VideoDoor):
    """Videos of this user."""

    bodies = {"POST": VideoIn}
    queries = {"GET": PageIn}

    def get(self, request: Request) -> Response:
        """List videos."""
        tasks = self.listed(Task.objects.filter(hidden_at=None, task_type__in=VIDEO_TYPES))
        return Response(page(tasks, self.query(PageIn), video_id_of, videos))

    def post(self, request: Request) -> HttpResponseBase:
        """Make a video of a prompt, and of an image when `input_reference` gives one."""
        files = self.files("input_reference", 1)
        asked = self.parse(VideoIn)
        if not asked.model:
            raise ValidationFailed.of("model", "required", "name a model")
        with self.keeping({"input_reference": files}) as stored:
            images = named(stored) or reference(asked.input_reference)
            given = with_defaults(asked, {"prompt": asked.prompt, "images": images or None})
            kind = "image-to-video" if images else "text-to-video"
            remembered = {"seconds": given.get("duration"), "size": given.get("size")}
            response = self.started(self.wish(asked, kind, given, remembered=remembered))
            if "Idempotency-Replayed" not in response.headers:
                self.kept()
        return response


class OneVideo(VideoDoor):
    """A video, finished or not."""

    def get(self, request: Request, id_: str) -> Response:
        """How far it is."""
        return Response(video(self.video(id_)), headers=POLL)

    def delete(self, request: Request, id_: str) -> Response:
        """Cancel it if need be, and delete it."""
        found = self.video(id_)
        verbs.hide(found.row, by=self.credential.user.name)
        return Response({"id": id_, "object": "video.deleted", "deleted": True})


class VideoContent(VideoDoor):
    """Its bytes."""

    queries = {"GET": ContentIn}

    def get(self, request: Request, id_: str) -> HttpResponseBase:
        """Download it; ranges are supported."""
        found, variant = self.video(id_), self.query(ContentIn).variant
        if variant == "spritesheet":
            raise NotFound("There are no sprite sheets.")
        assets = media.Asset.objects.filter(task_id=found.row.id, deleted_at=None, kind="video")
        asset = assets.order_by("index").first() if found.row.status == Status.SUCCEEDED else None
        if asset is None:
            raise NotFound("This video is not completed, or was removed.")
        file = media.original(asset) if variant == "video" else poster(asset)
        return media.serve(file, request.method or "GET", request.headers)


class Remix(VideoDoor):
    """A new video from what an earlier one was made of."""

    bodies = {"POST": RemixIn}

    def post(self, request: Request, id_: str) -> HttpResponseBase:
        """The same again with another prompt."""
        found, prompt = self.video(id_), self.parse(RemixIn).prompt
        if found.more.input is None:
            raise Purged("The input of this video was removed.")
        fields = {
            "model": found.row.model,
            "task_type": found.row.task_type,
            "input": {**found.more.input, "prompt": prompt},
            "metadata": found.more.metadata,
        }
        remembered = {**found.remembered, "remixed_from": id_}
        return self.started(Wish(fields=fields, remembered=remembered))


def reference(given: Mapping[str, Any] | None) -> list[str]:
    """The image of `{image_url}` or `{file_id}`. Raises ValidationFailed."""
    if not given:
        return []
    url, file = given.get("image_url"), given.get("file_id")
    if isinstance(url, str) and file is None:
        return [url]
    if isinstance(file, str) and url is None:
        return [asset_of(file)]
    raise ValidationFailed.of("input_reference", "format", "want image_url or file_id")


def with_defaults(asked: VideoIn, given: Mapping[str, Any]) -> dict[str, Any]:
    """Length and size of this dialect, where they are not asked for and the model can do them."""
    wanted = {"duration": asked.seconds, "size": asked.size}
    chosen = {**given, **{name: value for name, value in wanted.items() if value is not None}}
    entry = catalogue.find(asked.model)
    for name, value in DEFAULTS.items():
        known = {key: kept for key, kept in chosen.items() if kept is not None}
        if name not in chosen and entry and catalogue.accepts(entry, {**known, name: value}):
            chosen[name] = value
    return chosen


def poster(asset: media.Asset) -> media.Shown:
    """Raises NotFound, which says why there is none."""
    if asset.thumbnail_key:
        return media.small(asset)
    if asset.thumbnail_key is None:
        raise NotFound("The poster frame of this video is not made yet.")
    raise NotFound("This video has no poster frame: its first frame could not be decoded.")


def video_id_of(text: str) -> UUID | None:
    return hex_id(text, "video_")


def videos(tasks: Sequence[Task]) -> list[dict[str, Any]]:
    return [video(one) for one in shown(tasks)]


def video(found: Shown) -> dict[str, Any]:
    """The video object."""
    task, row = found.object, found.row
    asked = {**(task["input"] or {}), **found.remembered}
    seconds = asked.get("seconds") or asked.get("duration")
    done = row.status == Status.SUCCEEDED
    return {
        "id": f"video_{row.id.hex}",
        "object": "video",
        "model": row.model,
        "status": word(Status(row.status)),
        "progress": task["progress"],
        "created_at": int(row.created_at.timestamp()),
        "completed_at": int(row.finished_at.timestamp()) if row.finished_at and done else None,
        "expires_at": int(row.purge_at.timestamp()) if row.purge_at and done else None,
        "seconds": str(seconds or DEFAULTS["duration"]),
        "size": asked.get("size") or DEFAULTS["size"],
        "prompt": asked.get("prompt"),
        "remixed_from_video_id": asked.get("remixed_from"),
        "error": error(found),
    }


def word(status: Status) -> str:
    if status in TERMINAL:
        return "completed" if status == Status.SUCCEEDED else "failed"
    return "queued" if status in WAITING else "in_progress"


def error(found: Shown) -> dict[str, str] | None:
    status = Status(found.row.status)
    if status not in TERMINAL or status == Status.SUCCEEDED:
        return None
    failure = of_end(status, found.object["error"])
    return {"code": failure.code, "message": failure.message}
