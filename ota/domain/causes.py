"""Why the engine pauses a rollout or refuses a command: a code with parameters, and one English sentence made of them.

The sentence is for the REST API and the command line; whoever speaks another language translates ``SENTENCES`` by code.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Parameter = int | str


class Code(StrEnum):
    """What there is to say."""

    TOO_MANY_FAILED = "too_many_failed"
    NONE_COMMITTED = "none_committed"
    NOT_POSSIBLE = "not_possible"
    NOTHING_POSSIBLE = "nothing_possible"
    LAST_STAGE = "last_stage"
    OWN_PROPOSAL = "own_proposal"


def gettext_noop(text: str) -> str:
    """Marks a text for translators. Translating is for those who show it: nothing here knows a language."""
    return text


SENTENCES: dict[Code, str] = {
    Code.TOO_MANY_FAILED: gettext_noop(
        "Stage {stage}: {failed} of {frames} frames failed or went back, more than the {allowed} allowed: look at the "
        "failures, then resume, abort or roll back."
    ),
    Code.NONE_COMMITTED: gettext_noop(
        "Stage {stage}: none of its {frames} frames has committed the release: look at the failures, then resume, "
        "abort or roll back."
    ),
    Code.NOT_POSSIBLE: gettext_noop("The rollout is {state}, so {command} is not possible; possible now: {possible}."),
    Code.NOTHING_POSSIBLE: gettext_noop(
        "The rollout is {state}, so {command} is not possible; start a new rollout instead."
    ),
    Code.LAST_STAGE: gettext_noop("Stage {stage} is the last one: there is nothing to advance to."),
    Code.OWN_PROPOSAL: gettext_noop("You proposed this rollout yourself: somebody else has to approve it."),
}


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing to say. ``str()`` is its sentence; ``parameters`` are what ``SENTENCES`` wants for ``code``."""

    code: Code
    parameters: Mapping[str, Parameter] = field(default_factory=dict)

    def __str__(self) -> str:
        return SENTENCES[self.code].format(**self.parameters)

    def as_detail(self) -> dict[str, object]:
        """As an event's detail keeps it, in JSON's types."""
        return {"code": self.code.value, "parameters": dict(self.parameters)}
