from django.apps import AppConfig


class HttpConfig(AppConfig):
    name = "genpulse.http"
    label = "http"
