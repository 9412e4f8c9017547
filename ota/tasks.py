"""What Celery wakes. A lost or repeated task changes nothing: the truth is in the tables."""

from celery import shared_task
from django.core.cache import cache
from django.utils import timezone

from fleet import clock
from ota import repository
from ota.services import deliveries, director, evidence, rollouts

REFRESH_EVERY_S = 60
LOOK_EXPIRES_S = 30
"""A look that waited longer is asked for anew by every tick."""


@shared_task(name="ota.tasks.tick")  # type: ignore[untyped-decorator]
def tick() -> None:
    """Tick every running rollout and have looked at those that are due; once a minute, renew what comes near its
    expiry. Webhooks are told apart from it."""
    rollouts.tick_all()
    if evidence.due(clock.now()):
        evaluate.apply_async(expires=LOOK_EXPIRES_S)
    if cache.add("ota.refresh", True, REFRESH_EVERY_S):
        refresh.delay()
    deliveries.wake()


@shared_task(name="ota.tasks.refresh")  # type: ignore[untyped-decorator]
def refresh() -> None:
    """Renew online documents and DesiredStates well before they expire. Security time is real time."""
    now = timezone.now()
    try:
        repository.refresh_online(now)
    finally:  # a lost snapshot key is no reason to let DesiredStates run out
        director.refresh(now)


@shared_task(name="ota.tasks.evaluate")  # type: ignore[untyped-decorator]
def evaluate() -> None:
    """Look at the evidence on every rollout that is due; of two workers, the second finds nothing to do."""
    evidence.evaluate_all()
