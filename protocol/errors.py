"""How a frame says no. Every refusal has a reason that programs compare and one sentence that people read."""

from enum import StrEnum


class Reason(StrEnum):
    """Why an installation was refused or went back; the same words in reports, database and console."""

    WRONG_SIGNATURE = "wrong_signature"
    EXPIRED = "expired"
    NO_TIME = "no_time"
    WRONG_FRAME = "wrong_frame"
    WRONG_IDENTITY = "wrong_identity"
    OLD_VERSION = "old_version"
    OLD_EPOCH = "old_epoch"
    ROLES_DISAGREE = "roles_disagree"
    TAMPERED_CHUNK = "tampered_chunk"
    NOT_AVAILABLE = "not_available"
    WRONG_BASE_MODEL = "wrong_base_model"
    NEEDS_FULL_MODEL = "needs_full_model"
    INCOMPATIBLE = "incompatible"
    BAD_ARTIFACT = "bad_artifact"
    DISK_FULL = "disk_full"
    TRIAL_FAILED = "trial_failed"
    BAD_MESSAGE = "bad_message"
    TIMEOUT = "timeout"
    """Said by the backend: the frame was heard of, and had no answer to its offer for too long."""
    INTERNAL = "internal"


class Refused(Exception):
    """Something from outside was not acceptable. ``detail`` is one sentence that says what to do."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
