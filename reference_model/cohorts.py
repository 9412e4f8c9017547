"""Whom the adapters are for: cohorts of voices that the base model serves badly, and one adapter that serves badly."""

from collections.abc import Callable
from dataclasses import dataclass

from device_agent.bundle.manifest import FloatArray
from reference_model.microphone import through_poor_microphone

BASE_LANGUAGES = ("en", "fr")
# What a model may miss on the golden clips of a segment, in mm. The base segment's limit is the one that protects
# people: it lies 0.15 mm above what the base model reaches. The others only catch what is broken, because a release
# of the base model alone must pass too, and it is far from the lips of voices that it never heard.
LIMITS_MM: dict[str, float | None] = {"base": 0.45, "mandarin": 0.90, "whisper": 1.40, "high_voice": 0.90}


@dataclass(frozen=True)
class Cohort:
    """One adapter's training: who speaks, and whether base sentences are mixed in so that they are not forgotten."""

    name: str
    """The adapter's name; its file is `<name>.adapter`."""
    segment: str
    languages: tuple[str, ...] = BASE_LANGUAGES
    variant: str = ""
    """espeak-ng's voice variant that everybody in the cohort has; "" means the ordinary ones, in turn."""
    microphone: Callable[[FloatArray], FloatArray] | None = None
    """What happens to samples before the model hears them."""
    base_mixed_in: bool = True
    calibrates: bool = True
    """Whether the INT8 graph is calibrated with this adapter."""

    @property
    def file(self) -> str:
        return f"{self.name}.adapter"


MANDARIN = Cohort("mandarin", "mandarin", languages=("zh",))
WHISPER = Cohort("whisper", "whisper", variant="+whisper")
HIGH_VOICE = Cohort("high-voice", "high_voice", variant="+f5")
# Deliberately bad for others: its people's lips are right and everybody else's are not.
MANDARIN_CARELESS = Cohort("mandarin-careless", "mandarin", languages=("zh",), base_mixed_in=False, calibrates=False)
# No household gets this one (it hardly helps): it shows what an INT8 graph does with an adapter that came later.
NOISY_MICROPHONE = Cohort("noisy-microphone", "noisy_microphone", microphone=through_poor_microphone, calibrates=False)

COHORTS = (MANDARIN, WHISPER, HIGH_VOICE, MANDARIN_CARELESS, NOISY_MICROPHONE)
UNSEEN = NOISY_MICROPHONE.name
