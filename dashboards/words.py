"""What states, reasons and kinds are called on screen: always an icon, a word and a colour together."""

from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

Words = str | Promise


@dataclass(frozen=True)
class Status:
    """``icon`` is a name in ``dashboards.icons``, ``tone`` a class in the style sheet."""

    word: Words
    icon: str
    tone: str


ROLLOUT = {
    "draft": Status(pgettext_lazy("rollout state", "Draft"), "dot", "quiet"),
    "proposed": Status(pgettext_lazy("rollout state", "Waits for approval"), "clock", "warn"),
    "scheduled": Status(pgettext_lazy("rollout state", "Scheduled"), "clock", "busy"),
    "running": Status(pgettext_lazy("rollout state", "Running"), "turning", "busy"),
    "paused": Status(pgettext_lazy("rollout state", "Paused"), "pause", "warn"),
    "succeeded": Status(pgettext_lazy("rollout state", "Succeeded"), "check", "good"),
    "aborted": Status(pgettext_lazy("rollout state", "Aborted"), "stop", "quiet"),
    "rolling_back": Status(pgettext_lazy("rollout state", "Rolling back"), "turning", "warn"),
    "rolled_back": Status(pgettext_lazy("rollout state", "Rolled back"), "undo", "bad"),
}

INSTALL = {
    "idle": Status(pgettext_lazy("install state", "Idle"), "dot", "quiet"),
    "pending": Status(pgettext_lazy("install state", "Pending"), "clock", "quiet"),
    "offered": Status(pgettext_lazy("install state", "Offered"), "send", "busy"),
    "downloading": Status(pgettext_lazy("install state", "Downloading"), "down", "busy"),
    "verifying": Status(pgettext_lazy("install state", "Verifying"), "shield", "busy"),
    "staged": Status(pgettext_lazy("install state", "Staged"), "layers", "busy"),
    "trial": Status(pgettext_lazy("install state", "In trial"), "flask", "busy"),
    "committed": Status(pgettext_lazy("install state", "Committed"), "check", "good"),
    "returning": Status(pgettext_lazy("install state", "Returning"), "turning", "warn"),
    "returned": Status(pgettext_lazy("install state", "Returned"), "undo", "warn"),
    "reverted": Status(pgettext_lazy("install state", "Reverted"), "undo", "bad"),
    "failed": Status(pgettext_lazy("install state", "Failed"), "cross", "bad"),
    "dark": Status(pgettext_lazy("install state", "Dark"), "unplugged", "lost"),
}

STAGE = {
    "waiting": Status(pgettext_lazy("stage state", "Waiting"), "clock", "quiet"),
    "open": Status(pgettext_lazy("stage state", "Open"), "turning", "busy"),
    "complete": Status(pgettext_lazy("stage state", "Complete"), "check", "good"),
    "stopped": Status(pgettext_lazy("stage state", "Stopped"), "pause", "warn"),
}

ARM = {
    "canary": pgettext_lazy("arm", "Canary"),
    "control": pgettext_lazy("arm", "Control"),
    "holdback": pgettext_lazy("arm", "Holdback"),
}

COMMAND = {
    "start": _("Start"),
    "approve": _("Approve"),
    "pause": _("Pause"),
    "resume": _("Resume"),
    "advance": _("Advance"),
    "abort": _("Abort"),
    "rollback": _("Roll back"),
}

LIFECYCLE = {
    "awaited": Status(pgettext_lazy("frame", "Not born yet"), "clock", "quiet"),
    "active": Status(pgettext_lazy("frame", "In service"), "check", "good"),
    "retired": Status(pgettext_lazy("frame", "Retired"), "stop", "quiet"),
}

CERTIFICATE = {
    "good": Status(pgettext_lazy("certificate", "Good"), "check", "good"),
    "replaced": Status(pgettext_lazy("certificate", "Good for some days beside its successor"), "clock", "quiet"),
    "ended": Status(pgettext_lazy("certificate", "Ended"), "stop", "quiet"),
    "expired": Status(pgettext_lazy("certificate", "Expired"), "clock", "warn"),
    "revoked": Status(pgettext_lazy("certificate", "Revoked"), "cross", "bad"),
}

FRAME_COMMAND = {
    "claim": _("New claim"),
    "replace": _("Replace the frame"),
    "revoke": _("Revoke its certificates"),
    "retire": _("Retire the frame"),
}

REASON = {
    "wrong_signature": _("Wrong signature"),
    "expired": _("Expired"),
    "no_time": _("The frame does not know the time"),
    "wrong_frame": _("Meant for another frame"),
    "wrong_identity": _("Another frame's identity"),
    "old_version": _("Older than what the frame accepts"),
    "old_epoch": _("Older than the frame's security epoch"),
    "roles_disagree": _("The two signatures disagree"),
    "tampered_chunk": _("Tampered chunk"),
    "not_available": _("Not available"),
    "wrong_base_model": _("Made for another base model"),
    "needs_full_model": _("Needs a base model that the frame lacks"),
    "incompatible": _("Incompatible with the frame"),
    "bad_artifact": _("Bad artifact"),
    "disk_full": _("Disk full"),
    "trial_failed": _("Trial failed"),
    "bad_message": _("Bad message"),
    "internal": _("Internal fault"),
    # What the backend finds itself.
    "timeout": _("Took too long"),
    "no_former_release": _("Nobody knows what it ran before"),
    # Kinds of HealthEvents beside the reasons above.
    "cloned_identity": _("Two frames with one identity"),
    "playback_refused": _("Photo or voice refused"),
    "playback_failed": _("Playback failed"),
    "npu_fault": _("NPU fault: the CPU took over"),
    "subscription_refused": _("Broker refused a subscription"),
    "outbox_gap": _("Measurements lost: the outbox was full"),
    "renewal_failed": _("Certificate not renewed"),
    "certificate_lapsed": _("Certificate lapsed"),
    "unknown_authority": _("Unknown authority beside a certificate"),
    "agent_not_started": _("The release's agent does not start: the image's runs"),
}

ROLE = {
    "viewer": pgettext_lazy("role", "viewer"),
    "operator": pgettext_lazy("role", "operator"),
    "releaser": pgettext_lazy("role", "releaser"),
    "admin": pgettext_lazy("role", "admin"),
}

SCOPE = {
    "read": pgettext_lazy("scope", "read"),
    "operate": pgettext_lazy("scope", "operate"),
    "release": pgettext_lazy("scope", "release"),
    "admin": pgettext_lazy("scope", "administer"),
}

METRIC = {
    "completion": _("Completion"),
    "complaints": _("Complaints per 1,000 playbacks"),
    "power": _("Power"),
}


def status(table: dict[str, Status], state: str) -> Status:
    """The status of ``state``; one nobody has words for is shown as it is rather than hidden."""
    return table.get(state, Status(state, "dot", "quiet"))


def reason(name: str) -> Words:
    """The words for a refusal's reason or a HealthEvent's kind, or the name itself."""
    return REASON.get(name, name)


def arm(name: str) -> Words:
    return ARM.get(name, name)


def role(name: str) -> Words:
    return ROLE.get(name, name)


def scope(name: str) -> Words:
    return SCOPE.get(name, name)
