from django.urls import path

from media import api, upload_api

urlpatterns = [
    path("api/v1/media", upload_api.Media.as_view()),
    path("api/v1/media/uploads", upload_api.Uploads.as_view()),
    path("api/v1/media/uploads/<upload_id>/content", upload_api.UploadContent.as_view()),
    path("api/v1/media/uploads/<upload_id>/finalize", upload_api.UploadFinalize.as_view()),
    path("api/v1/assets", api.Assets.as_view()),
    path("api/v1/assets/<asset_id>", api.OneAsset.as_view()),
    path("api/v1/assets/<asset_id>/content", api.AssetContent.as_view()),
    path("api/v1/assets/<asset_id>/sign", api.AssetSign.as_view()),
    path("assets/<path:key>", api.SignedBytes.as_view()),
]
