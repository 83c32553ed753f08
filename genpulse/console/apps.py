from django.apps import AppConfig


class ConsoleConfig(AppConfig):
    name = "genpulse.console"
    label = "console"
