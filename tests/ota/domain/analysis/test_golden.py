"""The formulas agree with gbstats' and confseq's, value by value."""

import json

import pytest

from benchmarks.canary import golden
from ota.domain.analysis import eprocess


def test_the_formulas_are_those_of_gbstats_and_confseq() -> None:
    errors = golden.golden_errors()
    assert set(errors) == {"gbstats", "confseq"}
    assert golden.golden_error() == max(errors.values()) <= golden.LIMIT


def test_a_wrong_formula_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden, "log_e", lambda h, v, tau: eprocess.log_e(h, v, tau * (1 + 1e-6)))
    assert golden.golden_error() > golden.LIMIT


def test_gbstats_p_value_is_below_alpha_exactly_where_our_interval_leaves_out_zero() -> None:
    rows = json.loads(golden.FILE.read_text())["gbstats"]["rows"]
    decided = []
    for row in rows:
        tau = (row["variance"] * row["n"]) ** 0.5 * golden.gbstats_rho(row["alpha"], row["tuning"])
        outside = abs(row["difference"]) > float(eprocess.half_width(row["variance"], tau, row["alpha"]))
        assert outside == (row["p_value"] < row["alpha"])
        decided.append(outside)
    assert 0 < sum(decided) < len(decided)
