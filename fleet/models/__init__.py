"""What the backend knows of frames. Services write these tables, selectors read them."""

from fleet.models.access import ApiToken, AuditEntry
from fleet.models.frames import Frame, FrameGroup, Household
from fleet.models.identity import BrokerUsers, Claim, FrameCertificate, SpentNonce
from fleet.models.reported import ReportedState
from fleet.models.sessions import FrameSessions
from fleet.models.telemetry import (
    Complaint,
    ContextDay,
    FrameDay,
    HealthEvent,
    OutboxWatermark,
    Playback,
    PowerSample,
)

__all__ = [
    "ApiToken",
    "AuditEntry",
    "BrokerUsers",
    "Claim",
    "Complaint",
    "ContextDay",
    "Frame",
    "FrameCertificate",
    "FrameDay",
    "FrameGroup",
    "FrameSessions",
    "HealthEvent",
    "Household",
    "OutboxWatermark",
    "Playback",
    "PowerSample",
    "ReportedState",
    "SpentNonce",
]
