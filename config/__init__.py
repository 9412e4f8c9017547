"""Django's settings, addresses and entry points; sees everything."""

from config.celery import app as celery_app

__all__ = ["celery_app"]
