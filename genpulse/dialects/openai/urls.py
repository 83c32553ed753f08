"""The paths of the OpenAI dialect."""

from django.urls import path

from genpulse.dialects.openai import (
    audio,
    chat,
    embeddings,
    failures,
    files,
    images,
    models,
    videos,
)
from genpulse.dialects.openai.leaving import attentive
from genpulse.http import problems
from tasks.waiting import patient

problems.register("/openai", "openai", failures.envelope)

V1 = "openai/v1/"
urlpatterns = [
    path(f"{V1}models", models.Models.as_view()),
    path(f"{V1}models/<path:name>", models.OneModel.as_view()),
    path(f"{V1}chat/completions", attentive(chat.Completions.as_view())),
    path(f"{V1}images/generations", patient(images.Images.as_view())),
    path(f"{V1}images/edits", patient(images.Edits.as_view())),
    path(f"{V1}audio/speech", patient(audio.Speech.as_view())),
    path(f"{V1}audio/transcriptions", patient(audio.Transcriptions.as_view())),
    path(f"{V1}embeddings", patient(embeddings.Embeddings.as_view())),
    path(f"{V1}videos", videos.Videos.as_view()),
    path(f"{V1}videos/<str:id_>", videos.OneVideo.as_view()),
    path(f"{V1}videos/<str:id_>/content", videos.VideoContent.as_view()),
    path(f"{V1}videos/<str:id_>/remix", videos.Remix.as_view()),
    path(f"{V1}files", files.Files.as_view()),
    path(f"{V1}files/<str:id_>", files.OneFile.as_view()),
    path(f"{V1}files/<str:id_>/content", files.FileContent.as_view()),
    path("openai", failures.unknown_url),
    path("openai/<path:rest>", failures.unknown_url),
]
