"""The native paths of webhooks."""

from django.urls import path

from tasks import webhook_api as api

urlpatterns = [
    path("api/v1/webhook-endpoints", api.Endpoints.as_view()),
    path("api/v1/webhook-endpoints/<str:id_>", api.OneEndpoint.as_view()),
    path("api/v1/webhook-endpoints/<str:id_>/rotate-secret", api.RotateSecret.as_view()),
    path("api/v1/webhook-endpoints/<str:id_>/test", api.TestEndpoint.as_view()),
    path("api/v1/webhook-endpoints/<str:id_>/deliveries", api.EndpointDeliveries.as_view()),
    path("api/v1/webhook-deliveries", api.Deliveries.as_view()),
    path("api/v1/webhook-deliveries/<str:id_>", api.OneDelivery.as_view()),
    path("api/v1/webhook-deliveries/<str:id_>/redeliver", api.Redeliver.as_view()),
    path("api/v1/webhook-secret", api.DefaultSecret.as_view()),
    path("api/v1/webhook-secret/rotate", api.RotateDefaultSecret.as_view()),
]
