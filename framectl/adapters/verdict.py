"""What measured lip errors mean for an adapter, in words. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

SMALLEST_MM = 0.01
"""Changes below are no change: they are smaller than what the figures show."""


@dataclass(frozen=True)
class SegmentErrors:
    """Lip errors in mm on one segment's clips: of the mean pose, the base model, and each adapter in order."""

    segment: str
    clips: int
    steps: int
    mean_pose_mm: float
    base_mm: float
    adapter_mm: tuple[float, ...]


@dataclass(frozen=True)
class Verdict:
    """One adapter on one segment. `passed` is whether it keeps the limit; `sentence` is empty where nothing changed."""

    segment: str
    lip_mm: float
    change_mm: float
    limit_mm: float | None
    passed: bool
    sentence: str


@dataclass(frozen=True)
class JudgedAdapter:
    """An adapter with its verdicts, in the order of the segments."""

    file: str
    name: str
    segment: str
    sha256: str
    verdicts: tuple[Verdict, ...]

    @property
    def passed(self) -> bool:
        """Whether no limit is missed."""
        return all(one.passed for one in self.verdicts)


@dataclass(frozen=True)
class Evaluation:
    """Several adapters on the same clips; `golden` says that these are the clips and limits of a frame's trial."""

    bundle: str
    bundle_sha256: str
    golden: bool
    limits_mm: Mapping[str, float | None]
    segments: tuple[SegmentErrors, ...]
    adapters: tuple[JudgedAdapter, ...]


def judge(errors: SegmentErrors, lip_mm: float, limit_mm: float | None, *, own: bool, golden: bool) -> Verdict:
    """Compare an adapter's lip error with the base model's on one segment.

    `own` is whether this is the segment the adapter was made for.
    """
    change = lip_mm - errors.base_mm
    passed = limit_mm is None or lip_mm <= limit_mm
    skilled = lip_mm < errors.mean_pose_mm
    said = _change(errors, lip_mm, own)
    if not skilled:
        said += f", no better than a mouth that never moves ({errors.mean_pose_mm:.2f})"
    if not passed:
        said += f", over its limit {limit_mm:.2f}: "
        said += "a frame's trial would stop it" if golden else "a trial with these clips and limits would stop it"
    elif change >= SMALLEST_MM:
        said += f", within its limit {limit_mm:.2f}: " if limit_mm is not None else ", which has no limit: "
        said += "only the gray release can see it"
    elif not own and skilled and change > -SMALLEST_MM:
        said = ""
    return Verdict(errors.segment, lip_mm, change, limit_mm, passed, f"{said[:1].upper()}{said[1:]}." if said else "")


def _change(errors: SegmentErrors, lip_mm: float, own: bool) -> str:
    change = lip_mm - errors.base_mm
    where = f"{errors.segment}, its own segment" if own else errors.segment
    moved = f"({errors.base_mm:.2f} -> {lip_mm:.2f} mm)"
    if change >= SMALLEST_MM:
        return f"worse by {change:.2f} mm on {where} {moved}"
    if change <= -SMALLEST_MM:
        return f"better by {-change:.2f} mm on {where} {moved}"
    return f"no better and no worse on {where} {moved}"
