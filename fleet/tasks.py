"""What Celery wakes. A lost or repeated task changes nothing: the truth is in the tables."""

from celery import shared_task

from fleet.services import audit


@shared_task(name="fleet.tasks.publish_audit_head")  # type: ignore[untyped-decorator]
def publish_audit_head() -> None:
    """Publish the audit log's newest head outside the database."""
    audit.publish_head()
