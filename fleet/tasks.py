"""What Celery wakes. A lost or repeated task changes nothing: the truth is in the tables."""

from importlib import import_module

from celery import shared_task
from django.conf import settings

from fleet.services import audit


@shared_task(name="fleet.tasks.publish_audit_head")  # type: ignore[untyped-decorator]
def publish_audit_head() -> None:
    """Publish the audit log's newest head outside the database."""
    audit.publish_head()


@shared_task(name="fleet.tasks.clear_sessions")  # type: ignore[untyped-decorator]
def clear_sessions() -> None:
    """Forget sessions that have ended, which the database would keep for ever."""
    import_module(settings.SESSION_ENGINE).SessionStore.clear_expired()
