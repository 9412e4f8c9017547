"""The clock simulated people live by: days pass in seconds, until it has caught up with everyone else's."""

from dataclasses import dataclass

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class PeopleClock:
    """Simulated time began ``days_ago`` days before ``began_ms`` (real, ms since 1970 UTC); one of its days takes
    ``day_seconds`` real seconds. It never runs ahead of real time: nothing happened in the future."""

    began_ms: int
    days_ago: float
    day_seconds: float

    def at(self, real_ms: int) -> int:
        """Simulated time in ms since 1970 UTC, when real time is ``real_ms``."""
        lived = (real_ms - self.began_ms) * DAY_MS / (self.day_seconds * 1000)
        return min(int(self.began_ms - self.days_ago * DAY_MS + lived), real_ms)
