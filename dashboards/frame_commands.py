"""What a person can do to a frame's identity: which commands its state allows, and what each will do, in words."""

from django.utils.translation import gettext as _

from dashboards.commands import Act
from dashboards.words import FRAME_COMMAND
from fleet.models import Frame
from fleet.selectors import Identity

KINDS = ("claim", "replace", "revoke", "retire")
_LOOKS = {
    "claim": ("send", ""),
    "replace": ("turning", ""),
    "revoke": ("cross", "danger"),
    "retire": ("stop", "danger"),
}


def choices(frame: Frame, identity: Identity) -> list[Act]:
    """The commands that the frame's state allows now, mildest first."""
    return [choice(frame, identity, kind) for kind in KINDS if allowed(frame, identity, kind)]


def allowed(frame: Frame, identity: Identity, kind: str) -> bool:
    retired = frame.lifecycle == Frame.Lifecycle.RETIRED
    match kind:
        case "claim":
            return not retired and not _good(identity)
        case "replace":
            return retired or _good(identity) > 0
        case "revoke":
            return identity.unrevoked > 0
        case _:
            return not retired


def choice(frame: Frame, identity: Identity, kind: str) -> Act:
    icon, tone = _LOOKS[kind]
    return Act(kind, FRAME_COMMAND[kind], icon, tone, _effect(identity, kind))


def seen_state(frame: Frame, identity: Identity) -> str:
    """What somebody was looking at: a second click, or a second person, finds it changed."""
    newest = identity.certificates[0].row if identity.certificates else None
    parts = [frame.lifecycle, newest.serial_hex if newest else "", str(identity.unrevoked)]
    return ":".join([*parts, identity.claim.made_at.isoformat() if identity.claim else ""])


def _good(identity: Identity) -> int:
    return sum(held.state in ("good", "replaced") for held in identity.certificates)


def _effect(identity: Identity, kind: str) -> str:
    match kind:
        case "claim":
            return _("Makes a new claim for its label; an earlier one stops working.")
        case "replace":
            return _(
                "Other hardware takes the id over with a new claim. The present hardware is cut off within 10 seconds, "
                "its certificates are revoked: {count}. Its history stays."
            ).format(count=identity.unrevoked)
        case "revoke":
            return _(
                "Cuts the frame off within 10 seconds and revokes its certificates: {count}. It plays on, and comes "
                "back with a new claim only."
            ).format(count=identity.unrevoked)
        case _:
            return _(
                "Takes the frame out of all groups and rollouts and revokes its certificates: {count}. "
                "Its history stays."
            ).format(count=identity.unrevoked)
