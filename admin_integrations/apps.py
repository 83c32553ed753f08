from django.apps import AppConfig


class AdminIntegrationsConfig(AppConfig):
    name = "admin_integrations"
