from django.apps import AppConfig


class EventsConfig(AppConfig):
    name = "genpulse.events"
    label = "events"
