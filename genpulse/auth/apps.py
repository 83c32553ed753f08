from django.apps import AppConfig


class AuthConfig(AppConfig):
    name = "genpulse.auth"
    label = "accounts"
    verbose_name = "Accounts, users and keys"
