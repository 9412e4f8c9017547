"""Inspections and evaluations of adapters as text and as JSON. Pure."""

from typing import TYPE_CHECKING, Any

from framectl.adapters.verdict import Evaluation, JudgedAdapter, Verdict
from framectl.output import printable, table

if TYPE_CHECKING:
    from framectl.adapters.inspect import Inspection


def inspection_text(found: "Inspection") -> str:
    """An adapter file for people."""
    fits = {None: "", True: ": it fits this bundle", False: ": it does not fit this bundle"}[found.fits]
    head = [
        ("adapter", f"{found.name}, for the segment {found.segment}"),
        ("file", f"{found.length} bytes, SHA-256 {found.sha256}"),
        ("base model", f"{found.base_model}{fits}"),
        ("rank", found.rank),
    ]
    parts = ["\n".join(f"{label:<12}{printable(text)}" for label, text in head)]
    rows = [
        (
            tensor.name,
            " x ".join(str(size) for size in tensor.shape),
            f"{tensor.minimum:.4f}",
            f"{tensor.maximum:.4f}",
            f"{tensor.norm:.3f}",
            None if tensor.range_share is None else f"{tensor.range_share:.0%}",
        )
        for tensor in found.tensors
    ]
    parts.append(table(("TENSOR", "SHAPE", "MIN", "MAX", "NORM", "OF ALLOWED RANGE"), rows))
    if found.modules and not any(module.delta_norm for module in found.modules):
        parts.append("Its factors multiply to zero: it is the base model alone.")
    elif found.modules:
        changes = [(module.name, f"{module.delta_norm:.4f}", f"{module.share:.1%}") for module in found.modules]
        parts.append(table(("MODULE", "NORM OF CHANGE", "SHARE"), changes))
    elif found.fits is None:
        parts.append("With --bundle this also says whether it fits, and which modules it changes most.")
    return "\n\n".join(parts)


def evaluation_text(found: Evaluation) -> str:
    """A table of lip errors, then what they mean for each adapter."""
    labels = labels_of(found.adapters)
    rows: list[list[object]] = []
    for row, part in enumerate(found.segments):
        limit = found.limits_mm.get(part.segment)
        measured = [part.segment, part.clips, f"{part.mean_pose_mm:.2f}", f"{part.base_mm:.2f}"]
        cells = [_cell(adapter.verdicts[row]) for adapter in found.adapters]
        rows.append([*measured, None if limit is None else f"{limit:.2f}", *cells])
    headings = ("SEGMENT", "CLIPS", "MEAN POSE", "BASE MODEL", "LIMIT", *labels)
    parts = ["Lip error in mm (mean pose: a mouth that never moves)", table(headings, rows)]
    known = {part.segment for part in found.segments}
    for label, adapter in zip(labels, found.adapters, strict=True):
        said = [one.sentence for one in adapter.verdicts if one.sentence]
        if adapter.segment not in known:
            said.append(f"There are no clips of its own segment {adapter.segment}: nothing tells whether it helps.")
        parts.append("\n".join(["", printable(f"{label}:"), *(printable(f"  {line}") for line in said)]))
    return "\n".join(parts)


def labels_of(adapters: tuple[JudgedAdapter, ...]) -> list[str]:
    """The adapters' names, or their files where two have the same name."""
    names = [adapter.name for adapter in adapters]
    return names if len(set(names)) == len(names) else [adapter.file for adapter in adapters]


def evaluation_data(found: Evaluation) -> dict[str, Any]:
    """The same for programs; mm with four decimals."""
    return {
        "bundle": {"name": found.bundle, "sha256": found.bundle_sha256},
        "golden": found.golden,
        "segments": [
            {
                "segment": part.segment,
                "clips": part.clips,
                "steps": part.steps,
                "mean_pose_mm": round(part.mean_pose_mm, 4),
                "base_model_mm": round(part.base_mm, 4),
                "limit_mm": found.limits_mm.get(part.segment),
            }
            for part in found.segments
        ],
        "adapters": [
            {
                "file": adapter.file,
                "name": adapter.name,
                "segment": adapter.segment,
                "sha256": adapter.sha256,
                "passed": adapter.passed,
                "segments": [_verdict_data(one) for one in adapter.verdicts],
            }
            for adapter in found.adapters
        ],
    }


def _verdict_data(one: Verdict) -> dict[str, Any]:
    return {
        "segment": one.segment,
        "lip_mm": round(one.lip_mm, 4),
        "change_mm": round(one.change_mm, 4),
        "passed": one.passed,
        "finding": one.sentence,
    }


def _cell(found: Verdict) -> str:
    return f"{found.lip_mm:.2f} ({found.change_mm:+.2f})" + ("" if found.passed else " over")
