"""The web server's entry point: ``uvicorn config.asgi:application``."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

_django = get_asgi_application()

from config.bodies import bounded  # noqa: E402  its imports need the applications that are loaded now

application = bounded(_django)
