"""The Django app ``bridge``: no models, one command."""

from django.apps import AppConfig


class BridgeConfig(AppConfig):
    """The MQTT side of the backend."""

    name = "bridge"
