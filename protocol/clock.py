"""The clock by which people live in a demonstration: their days pass in seconds, until it has caught up with real time.

The simulator's people and the backend that judges what they did read the same one, told as one text.
"""

from dataclasses import dataclass

DAY_MS = 86_400_000
EXAMPLE = "1767225600000/60/20"
_WRONG = f"is not of the form BEGAN_MS/DAYS_AGO/DAY_SECONDS, for example {EXAMPLE}"


@dataclass(frozen=True, slots=True)
class PeopleClock:
    """People's time stood ``days_ago`` days before ``began_ms`` (real, ms since 1970 UTC) until then; since, one of its
    days takes ``day_seconds`` real seconds. It never runs ahead of real time: nothing happened in the future."""

    began_ms: int
    days_ago: float
    day_seconds: float

    @classmethod
    def parse(cls, text: str) -> "PeopleClock":
        """From ``str()`` of another. Raises ValueError with half a sentence that says what is wrong."""
        try:
            began, days_ago, day_seconds = text.split("/")
            clock = cls(int(began), float(days_ago), float(day_seconds))
        except ValueError:
            raise ValueError(_WRONG) from None
        if not 0 <= clock.began_ms < 1 << 53 or not 0 < clock.days_ago < 1e4 or not 0.01 <= clock.day_seconds <= 86_400:
            raise ValueError("names times out of range: up to 10000 days ago, and 0.01 to 86400 seconds a day")
        return clock

    def __str__(self) -> str:
        return f"{self.began_ms}/{self.days_ago:.12g}/{self.day_seconds:.12g}"

    @property
    def start_ms(self) -> int:
        """People's time when the clock began to go."""
        return round(self.began_ms - self.days_ago * DAY_MS)

    def at(self, real_ms: int) -> int:
        """People's time in ms since 1970 UTC, when real time is ``real_ms``."""
        lived = max(0, real_ms - self.began_ms) * DAY_MS / (self.day_seconds * 1000)
        return min(int(self.start_ms + lived), real_ms)

    def real(self, people_ms: int) -> int:
        """The other way: when people's time is or was ``people_ms``, in real ms since 1970 UTC."""
        lived = (people_ms - self.start_ms) * self.day_seconds * 1000 / DAY_MS
        return max(round(self.began_ms + lived), people_ms)
