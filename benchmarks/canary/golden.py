"""The product's formulas against other people's implementations of them: golden.json, made by make_golden.py.

gbstats gives the half width of a two-sided interval. It writes the scale of its mixture as rho per observation; with N
observations of which the difference has variance V, tau^2 = V N rho^2 (Waudby-Smith et al., equations 9 and 161).
confseq gives the log of a one-sided mixture for a sum s with intrinsic time v: h = s/v, V = 1/v, and its rho, which is
1/tau^2, comes from the time v_opt at which its boundary is tightest (Howard et al., proposition 3).
"""

import json
import math
from pathlib import Path

from ota.domain.analysis.eprocess import half_width, log_e

FILE = Path(__file__).with_name("golden.json")
LIMIT = 1e-9


def golden_errors() -> dict[str, float]:
    """Largest difference by library: relative to the half width (gbstats), and of log E (confseq), relative where
    that is above 1."""
    golden = json.loads(FILE.read_text())
    widths = [_width_error(row) for row in golden["gbstats"]["rows"]]
    logs = [_log_error(row) for row in golden["confseq"]["rows"]]
    return {"gbstats": max(widths), "confseq": max(logs)}


def golden_error() -> float:
    """The larger of both: to be at most ``LIMIT``."""
    return max(golden_errors().values())


def gbstats_rho(alpha: float, tuning: float) -> float:
    """rho per observation for which gbstats' interval is narrowest at ``tuning`` observations."""
    return math.sqrt((-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / tuning)


def _width_error(row: dict[str, float]) -> float:
    tau = math.sqrt(row["variance"] * row["n"]) * gbstats_rho(row["alpha"], row["tuning"])
    return abs(float(half_width(row["variance"], tau, row["alpha"])) / row["half_width"] - 1)


def _log_error(row: dict[str, float]) -> float:
    need = 2 * math.log(1 / (2 * row["alpha_opt"]))
    tau = math.sqrt((need + math.log1p(need)) / row["v_opt"])
    ours = float(log_e(row["s"] / row["v"], 1 / row["v"], tau))
    return abs(ours - row["log_e"]) / max(1.0, abs(row["log_e"]))


if __name__ == "__main__":
    print(json.dumps(golden_errors()))
