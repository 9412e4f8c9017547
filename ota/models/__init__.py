"""What is delivered, to whom, and how far it has come. Services write these tables, selectors read them."""

from ota.models.artifact import Artifact
from ota.models.deployment import Deployment
from ota.models.desired import DesiredState
from ota.models.document import TufDocument
from ota.models.release import Release, ReleaseTarget
from ota.models.retained import RetainedObject
from ota.models.rollout import Freeze, Look, Pin, Rollout, RolloutEvent, RolloutStage
from ota.models.webhook import Webhook, WebhookDelivery

__all__ = [
    "Artifact",
    "Deployment",
    "DesiredState",
    "Freeze",
    "Look",
    "Pin",
    "Release",
    "ReleaseTarget",
    "RetainedObject",
    "Rollout",
    "RolloutEvent",
    "RolloutStage",
    "TufDocument",
    "Webhook",
    "WebhookDelivery",
]
