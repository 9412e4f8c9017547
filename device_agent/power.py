"""What a piece of work costs in power: read from the frame's own meter, or a planning figure that says it is one.

A meter is an INA2xx or INA3221 that the kernel shows under ``/sys/class/hwmon``. Its first channel is taken to be the
frame's supply; channels whose label has "npu" or "cpu" in it give the shares. Figures without a meter come from
``PowerModel`` and are marked estimated everywhere: they were not measured on any machine, a PC least of all.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

HWMON = Path("/sys/class/hwmon")
METERS = frozenset({"ina209", "ina219", "ina220", "ina226", "ina230", "ina231", "ina234", "ina260", "ina3221"})
"""What drivers of supply meters write into ``name``."""
SAMPLE_S = 0.2
MAX_DEVICES = 64
MAX_CHANNELS = 8
TOTAL = "total"

NPU_W = 3.1
"""W of the NPU while a film plays on it: a planning figure for an RK3588, out of the article this product follows."""
CPU_W = 1.7
"""W of one busy core: that article's figure for the whole processor while a film plays, taken to be one core's work."""


class PowerFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Mean power in W over ``window_s`` seconds; ``estimated`` where no meter was read."""

    window_s: float
    total_w: float
    npu_w: float | None = None
    cpu_w: float | None = None
    estimated: bool

    @property
    def energy_j(self) -> float:
        """Energy of the window in J."""
        return self.total_w * self.window_s


@dataclass(frozen=True, slots=True)
class _Channel:
    """Files that give one power: ``power`` in uW, or ``millivolt`` times ``milliampere``."""

    power: Path | None
    millivolt: Path
    milliampere: Path

    def watts(self) -> float:
        """Raises OSError or ValueError while the meter has nothing to say."""
        if self.power is not None:
            return int(self.power.read_text()) / 1e6
        return int(self.millivolt.read_text()) * int(self.milliampere.read_text()) / 1e6


class Meter:
    """The channels of one supply meter by name: "total", and "npu" and "cpu" where labels tell them."""

    def __init__(self, channels: Mapping[str, _Channel]) -> None:
        self._channels = dict(channels)

    @classmethod
    def find(cls, hwmon: Path = HWMON) -> Self | None:
        """The first supply meter that can be read, None where there is none."""
        try:
            devices = sorted(hwmon.iterdir(), key=lambda path: (len(path.name), path.name))[:MAX_DEVICES]
        except OSError:
            return None
        for device in devices:
            if _text(device / "name") in METERS:
                meter = cls(_channels(device))
                if TOTAL in meter.watts():
                    return meter
        return None

    def watts(self) -> dict[str, float]:
        """What each channel says now, in W; those that say nothing are left out."""
        values = {}
        for name, channel in self._channels.items():
            try:
                watts = channel.watts()
            except (OSError, ValueError):
                continue
            # A frame takes 0 to 100 W; current flows backwards on a charger or by an offset of the meter.
            values[name] = min(max(watts, 0.0), 1_000.0)
        return values


def _channels(device: Path) -> dict[str, _Channel]:
    found: dict[str, _Channel] = {}
    for number in range(1, MAX_CHANNELS + 1):
        power = device / f"power{number}_input"
        channel = _Channel(
            power if power.exists() else None, device / f"in{number}_input", device / f"curr{number}_input"
        )
        if channel.power is None and not (channel.millivolt.exists() and channel.milliampere.exists()):
            continue
        found.setdefault(TOTAL, channel)
        label = _text(device / f"in{number}_label").lower()
        for share in ("npu", "cpu"):
            if share in label:
                found[share] = channel
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


@dataclass(frozen=True, slots=True)
class PowerModel:
    """Watts from how long processor and NPU were at it. Nothing else of a frame (panel, radio, rest) is in it."""

    npu_w: float = NPU_W
    cpu_w: float = CPU_W

    def figures(self, window_s: float, cpu_s: float, npu_s: float) -> PowerFigures:
        """``cpu_s`` core-seconds and ``npu_s`` seconds on the NPU within ``window_s``."""
        window_s = max(window_s, 1e-3)
        cpu, npu = self.cpu_w * cpu_s / window_s, self.npu_w * npu_s / window_s
        return PowerFigures(window_s=window_s, total_w=cpu + npu, npu_w=npu, cpu_w=cpu, estimated=True)


class PowerMeter:
    """Measures one piece of work, as a context manager; then ``figures``.

    The meter is read at 5 Hz on a thread of its own and summed up as it comes, so that long work takes no memory.
    """

    def __init__(
        self,
        hwmon: Path = HWMON,
        on_npu: Callable[[], bool] = lambda: False,
        model: PowerModel | None = None,
    ) -> None:
        """``on_npu`` tells at the end whether the work ran on the NPU."""
        self._meter = Meter.find(hwmon)
        self._on_npu = on_npu
        self._model = model or PowerModel()
        self._joules: dict[str, float] = {}
        self._seconds: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._begin = self._end = self._sampled = 0.0
        self._cpu_s = 0.0

    def __enter__(self) -> Self:
        self._begin = self._sampled = time.monotonic()
        self._cpu_s = -time.process_time()
        if self._meter is not None:
            self._last = self._meter.watts()
            self._thread = threading.Thread(target=self._watch, args=(self._meter,), name="power", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None and self._meter is not None:
            self._thread.join()
            self._sample(self._meter)
        self._end = time.monotonic()
        self._cpu_s += time.process_time()

    @property
    def figures(self) -> PowerFigures:
        """Of the work that has ended. The meter's where it spoke for at least half of the time."""
        window_s = self._end - self._begin
        if self._seconds.get(TOTAL, 0.0) < window_s / 2 or not self._seconds:
            return self._model.figures(window_s, self._cpu_s, window_s if self._on_npu() else 0.0)
        means = {name: joules / self._seconds[name] for name, joules in self._joules.items() if self._seconds[name] > 0}
        return PowerFigures(
            window_s=window_s,
            total_w=means[TOTAL],
            npu_w=means.get("npu"),
            cpu_w=means.get("cpu"),
            estimated=False,
        )

    def _watch(self, meter: Meter) -> None:
        while not self._stop.wait(SAMPLE_S):
            self._sample(meter)

    def _sample(self, meter: Meter) -> None:
        """Add the trapezoid since the last sample, for each channel that spoke at both ends."""
        now, watts = time.monotonic(), meter.watts()
        passed = now - self._sampled
        for name in watts.keys() & self._last.keys():
            self._joules[name] = self._joules.get(name, 0.0) + (watts[name] + self._last[name]) / 2 * passed
            self._seconds[name] = self._seconds.get(name, 0.0) + passed
        self._sampled, self._last = now, watts
