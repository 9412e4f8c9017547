"""What guardrails, gates, policies and verdicts are called on screen."""

from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from dashboards.words import Status, Words
from ota.domain.analysis import policy
from ota.domain.analysis.verdict import Decision, Reason
from ota.domain.plan import GateKind

GUARDRAIL: dict[str, Words] = {
    policy.COMPLETION: _("Completion"),
    policy.COMPLAINT: _("Complaints"),
    policy.POWER: _("Power"),
    policy.LATENCY: _("Latency"),
    policy.FPS: _("Pictures per second"),
    policy.BREAKAGE: _("Crashes and failed installations"),
    policy.DARK: _("Frames gone dark"),
}

DECISION: dict[str, Status] = {
    Decision.PROMOTE: Status(pgettext_lazy("verdict", "Promote"), "check", "good"),
    Decision.HOLD: Status(pgettext_lazy("verdict", "Hold"), "clock", "quiet"),
    Decision.ROLLBACK: Status(pgettext_lazy("verdict", "Roll back"), "undo", "bad"),
}

STANDING: dict[str, Status] = {
    "harm": Status(pgettext_lazy("metric", "Harm shown"), "cross", "bad"),
    "harmless": Status(pgettext_lazy("metric", "Within its margin"), "check", "good"),
    "not_enough": Status(pgettext_lazy("metric", "Not enough evidence"), "clock", "quiet"),
    "watched": Status(pgettext_lazy("metric", "No harm shown"), "dot", "quiet"),
    "nothing_yet": Status(pgettext_lazy("metric", "Nothing to say yet"), "dot", "quiet"),
}
"""What one metric says by itself (``ota.selectors_looks.Standing``)."""

WHY: dict[str, Words] = {
    Reason.RATIO_MISMATCH: _("more or fewer canaries than were drawn"),
    Reason.CONTAMINATED: _("controls play the release too"),
    Reason.STALE: _("no fresh telemetry"),
    Reason.HARM: _("harm is shown"),
    Reason.MISSING: _("a metric could not be computed"),
    Reason.LITTLE_EXPOSURE: _("too few canaries have played the release"),
    Reason.DWELL: _("the stage has not been open for long enough"),
    Reason.NOT_ENOUGH_EVIDENCE: _("neither harm nor harmlessness is shown"),
    Reason.TIME_IS_UP: _("the last day has come and nothing is shown: a person decides"),
    Reason.HARMLESS: _("everything that the stage asks for is shown"),
}
"""Why a verdict is what it is, as a part of a sentence."""

GATE: dict[str, Words] = {
    GateKind.COMMITTED: _("The next one opens when the frames of this one have committed."),
    GateKind.MANUAL: _("The next one opens when a person advances."),
    GateKind.EVIDENCE: _("The next one opens when the evidence shows no harm beyond the margins."),
}

GATE_NAME: dict[str, Words] = {
    GateKind.COMMITTED: pgettext_lazy("gate", "Frames committed"),
    GateKind.MANUAL: pgettext_lazy("gate", "A person"),
    GateKind.EVIDENCE: pgettext_lazy("gate", "Evidence"),
}

POLICY: dict[str, Words] = {
    "standard": pgettext_lazy("policy", "Standard"),
    "small-fleet": pgettext_lazy("policy", "Small fleet"),
}


def guardrail(name: str) -> Words:
    """The metric's words, or the name itself."""
    return GUARDRAIL.get(name, name)
