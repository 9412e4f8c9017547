"""Celery only wakes work up: the truth is in PostgreSQL, so a lost or repeated task changes nothing.

The embedded default passes messages through folders below ``FRAMEFLEET_VAR``; ``CELERY_BROKER_URL`` names a real
broker.
"""

import os
from pathlib import Path
from typing import Any

from celery import Celery

from config import folder_transport

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

POLL_SECONDS = 0.05
TICK_SECONDS = 1.0
AUDIT_HEAD_SECONDS = 60.0
CLEAR_SESSIONS_SECONDS = 3_600.0

folder_transport.install()
app = Celery("framefleet")


def configuration(var: Path, broker_url: str) -> dict[str, Any]:
    """Celery's settings for this machine."""
    found: dict[str, Any] = {
        "broker_url": broker_url,
        "broker_connection_retry_on_startup": True,
        "task_ignore_result": True,
        "task_time_limit": 300,
        "worker_enable_remote_control": False,
        "worker_hijack_root_logger": False,
        "worker_prefetch_multiplier": 1,
        "worker_max_tasks_per_child": 5_000,
        "timezone": "UTC",
        "beat_schedule_filename": str(var / "celery" / "beat-schedule"),
        "beat_schedule": {
            # A tick that waited longer than the next one is due says nothing new.
            "tick": {
                "task": "ota.tasks.tick",
                "schedule": TICK_SECONDS,
                "options": {"expires": 10 * TICK_SECONDS},
            },
            "audit-head": {
                "task": "fleet.tasks.publish_audit_head",
                "schedule": AUDIT_HEAD_SECONDS,
                "options": {"expires": AUDIT_HEAD_SECONDS},
            },
            "clear-sessions": {
                "task": "fleet.tasks.clear_sessions",
                "schedule": CLEAR_SESSIONS_SECONDS,
                "options": {"expires": CLEAR_SESSIONS_SECONDS},
            },
        },
    }
    if broker_url.startswith("filesystem:"):
        messages = var / "celery" / "messages"
        control = var / "celery" / "control"
        for folder in (messages, control):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found["broker_transport_options"] = {
            "data_folder_in": str(messages),
            "data_folder_out": str(messages),
            "control_folder": str(control),
            "store_processed": False,
            "polling_interval": POLL_SECONDS,
        }
    return found


def _from_settings() -> dict[str, Any]:
    from django.conf import settings

    return configuration(settings.FRAMEFLEET_VAR, settings.CELERY_BROKER_URL)


# A callable is asked when the first setting is read, so importing this module needs no environment.
app.add_defaults(_from_settings)
app.autodiscover_tasks()
