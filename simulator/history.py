"""What simulated people did in the days before a demonstration: the same households, seeds and segments, in days.

The lip errors they react to are measured on the golden clips under the release their frames were born with, as for the
days that follow. The file holds one JSON line about all, then one for each frame and day; ``manage.py load_history``
takes it in, for frames that are marked as simulated alone.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from device_agent.folder import ConfigError
from protocol.clock import DAY_MS
from protocol.history import Context, Day, Head
from protocol.messages import Complaint, PlaybackEvent
from simulator.content import SharedContent
from simulator.factory import read_factory
from simulator.frames import read_enrolled
from simulator.people import Household, PeopleEvent, segment_of
from simulator.trials import SharedTrials

MAX_DAYS = 120


def write_history(frames: Path, factory: Path, out: Path, until_ms: int, days: int, seed: int) -> str:
    """Write the whole ``days`` before ``until_ms`` (ms since 1970 UTC) of all frames below ``frames`` to ``out``.

    Days are UTC's; the one that ``until_ms`` lies in is left out. Returns a sentence about what was written. Raises
    ConfigError with one.
    """
    enrolled = read_enrolled(frames)
    content = SharedContent()
    release = read_factory(factory, content)
    trials = SharedTrials(content.artifacts)
    report = trials.measure(release.slot)
    if report.failure is not None:
        raise ConfigError(f"The factory's release does not pass its own trial: {report.failure.detail}")
    last = until_ms // DAY_MS
    encoder = msgspec.json.Encoder()
    written = playbacks = 0
    aside = out.with_name(f"{out.name}.new")
    try:
        with aside.open("wb") as file:
            head = Head(release=release.digest, seed=seed, frames=len(enrolled), first_day=last - days, days=days)
            file.write(encoder.encode(head) + b"\n")
            for one in enrolled:
                household = Household(seed, one.identity.frame_id, (last - days) * DAY_MS)
                lip_mm = trials.lip_mm(release.slot, segment_of(one.identity.locale))
                if lip_mm is None:
                    raise ConfigError("The bundle's golden clips measure no lip error for these people.")
                for day in _days(household, one.identity.frame_id, last - days, last, release.digest, lip_mm):
                    file.write(encoder.encode(day) + b"\n")
                    written += 1
                    playbacks += day.playbacks
        os.replace(aside, out)
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error.strerror}.") from None
    return f"{playbacks} playbacks of {len(enrolled)} simulated frames in {days} days ({written} frame-days): {out}"


def _days(household: Household, frame_id: str, first: int, end: int, release: str, lip_mm: float) -> Iterator[Day]:
    """The days in which something happened, each in sums."""
    for day in range(first, end):
        events = list(household.live((day + 1) * DAY_MS, release, lip_mm))
        if events:
            yield _sums(frame_id, day, events)


def _sums(frame_id: str, day: int, events: list[PeopleEvent]) -> Day:
    playbacks = [event for event in events if isinstance(event, PlaybackEvent)]
    complained = {event.playback_id for event in events if isinstance(event, Complaint)}
    power = [event.total_w for event in events if not isinstance(event, PlaybackEvent | Complaint)]
    return Day(
        frame=frame_id,
        day=day,
        playbacks=len(playbacks),
        completed=sum(event.completed for event in playbacks),
        complaints=sum(isinstance(event, Complaint) for event in events),
        power_sum_w=round(sum(power), 3),
        power_samples=len(power),
        contexts=tuple(_contexts(playbacks, complained)),
    )


def _contexts(playbacks: list[PlaybackEvent], complained: set[str]) -> Iterator[Context]:
    words = [playback.context if isinstance(playback.context, dict) else {} for playback in playbacks]
    for context in {tuple(one.items()): one for one in words if one}.values():
        shown = [playback for playback, one in zip(playbacks, words, strict=True) if one == context]
        yield Context(
            words=context,
            playbacks=len(shown),
            completed=sum(playback.completed for playback in shown),
            complaints=sum(playback.playback_id in complained for playback in shown),
        )
