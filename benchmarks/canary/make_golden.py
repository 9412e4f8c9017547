"""Writes golden.json from other people's implementations of the formulas: run twice, each time with the Python of an
environment that has one of them (neither is a dependency of the project)::

    python3.11 -m venv gb && gb/bin/pip install gbstats==0.8.0
    python3.10 -m venv cs && cs/bin/pip install confseq==0.0.11 "numpy<2"
    gb/bin/python benchmarks/canary/make_golden.py gbstats
    cs/bin/python benchmarks/canary/make_golden.py confseq
    .venv/bin/python -m benchmarks.canary.golden

This file imports nothing of the project, so that nothing of ours can leak into the values. They are written with all
digits of a float (repr).
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("golden.json")


def from_gbstats() -> dict[str, Any]:
    """Two arms of yes-or-no values: variance of the difference, the tuning parameter, and the half width and p-value of
    gbstats' two-sided sequential test (SequentialTwoSidedTTest, absolute difference)."""
    from gbstats.frequentist.tests import SequentialConfig, SequentialTwoSidedTTest  # type: ignore[import-not-found]
    from gbstats.models.statistics import SampleMeanStatistic  # type: ignore[import-not-found]

    rows = []
    for n_control, n_canary in ((200, 40), (2_000, 100), (10_000, 575), (40_000, 13_000)):
        for share_control, share_canary in ((0.78, 0.74), (0.78, 0.775), (0.003, 0.009), (0.5, 0.52)):
            for alpha in (0.05, 0.01):
                for tuning in (500.0, 5_000.0, 50_000.0):
                    hits = [max(1, round(n_control * share_control)), max(1, round(n_canary * share_canary))]
                    arms = [SampleMeanStatistic(n_control, hits[0], hits[0])]
                    arms += [SampleMeanStatistic(n_canary, hits[1], hits[1])]
                    config = SequentialConfig("absolute", alpha=alpha, sequential_tuning_parameter=tuning)
                    test = SequentialTwoSidedTTest(arms[0], arms[1], config)
                    low, high = (float(value) for value in test.confidence_interval)
                    row = {"n": n_control + n_canary, "alpha": alpha, "tuning": tuning}
                    row |= {"variance": float(test.variance), "difference": float(test.point_estimate)}
                    rows.append(row | {"half_width": (high - low) / 2, "p_value": float(test.p_value)})
    return {"what": "gbstats " + version("gbstats") + ", SequentialTwoSidedTTest", "rows": rows}


def from_confseq() -> dict[str, Any]:
    """A sum s with intrinsic time v, and the log of confseq's one-sided normal mixture tuned to v_opt."""
    from confseq.boundaries import normal_log_mixture  # type: ignore[import-not-found]

    rows = []
    for v_opt in (0.5, 1_000.0, 50_000.0):
        for alpha_opt in (0.05, 0.01):
            for v in (0.01, 1.0, 30.0, 2_500.0, 400_000.0):
                for z in (-6.0, -1.5, 0.0, 0.3, 2.5, 12.0):
                    s = z * v**0.5
                    value = float(normal_log_mixture(s, v, v_opt, alpha_opt, True))
                    rows.append({"s": s, "v": v, "v_opt": v_opt, "alpha_opt": alpha_opt, "log_e": value})
    return {"what": "confseq " + version("confseq") + ", normal_log_mixture(is_one_sided=True)", "rows": rows}


def main() -> None:
    """Replace one library's part of golden.json."""
    name = sys.argv[1]
    made = {"gbstats": from_gbstats, "confseq": from_confseq}[name]()
    known = json.loads(FILE.read_text()) if FILE.exists() else {}
    known = {"how": "See make_golden.py beside this file."} | known | {name: made}
    parts = []
    for key in sorted(known):
        value = known[key]
        if isinstance(value, dict):
            rows = ",\n".join(json.dumps(row) for row in value["rows"])
            parts.append(f'{json.dumps(key)}: {{"what": {json.dumps(value["what"])}, "rows": [\n{rows}\n]}}')
        else:
            parts.append(f"{json.dumps(key)}: {json.dumps(value)}")
    FILE.write_text("{\n" + ",\n".join(parts) + "\n}\n")


if __name__ == "__main__":
    main()
