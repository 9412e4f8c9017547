"""The normal mixtures: golden values, quadrature, and what makes it an e-process."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad  # type: ignore[import-untyped]
from scipy.special import log_ndtr  # type: ignore[import-untyped]

from ota.domain.analysis.eprocess import half_width, log_e, log_e_noninferior

# log E to 20 digits, from the closed form in decimal arithmetic with 80 digits (erf by its series, no floats).
GOLDEN = [
    (0.0, 1e-4, 0.03, -1.15129254649702284201),
    (0.02, 1e-4, 0.03, 1.31253932304633100616),
    (-0.02, 1e-4, 0.03, -2.20241255304395142340),
    (0.2, 0.0009, 0.1, 19.83344536492919006649),
    (-0.15, 0.0004, 0.1, -3.86783568065141423236),
    (1.5, 0.25, 3.0, 3.26452312657469325370),
    (1.0, 1e-4, 0.1, 4948.88063642708981063348),
    (-1.0, 0.01, 1.0, -4.84081837949836336346),
    (0.01, 10.0, 0.05, -0.00008509468129091714),
]

sizes = st.floats(-1.0, 1.0)
variances = st.floats(1e-9, 1e3)
taus = st.floats(1e-3, 10.0)


@pytest.mark.parametrize(("harm", "variance", "tau", "expected"), GOLDEN)
def test_golden_values(harm: float, variance: float, tau: float, expected: float) -> None:
    assert float(log_e(harm, variance, tau)) == pytest.approx(expected, rel=1e-12, abs=1e-14)


@pytest.mark.parametrize(("harm", "variance", "tau"), [golden[:3] for golden in GOLDEN if golden[3] < 100])
def test_it_is_the_average_likelihood_ratio_over_half_normal_harms(harm: float, variance: float, tau: float) -> None:
    def integrand(d: float) -> float:
        density = 2 * math.exp(-((d / tau) ** 2) / 2) / (tau * math.sqrt(2 * math.pi))
        return density * math.exp(d * harm / variance - d * d / (2 * variance))

    spread = tau * math.sqrt(variance / (variance + tau**2))
    peak = max(0.0, harm * tau**2 / (variance + tau**2))
    low, high = max(0.0, peak - 12 * spread), peak + 12 * spread
    value = quad(integrand, low, high, epsabs=0, epsrel=1e-13, limit=200)[0]
    assert math.exp(float(log_e(harm, variance, tau))) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("harm", [-0.02, 0.0, 0.04, 0.3])
def test_it_is_the_average_over_harms_about_a_size(harm: float) -> None:
    """A normal of mean 0.04 and scale 0.02, cut off at 0."""
    variance, size, tau = 2e-4, 0.04, 0.02

    def integrand(d: float) -> float:
        density = math.exp(-(((d - size) / tau) ** 2) / 2 - log_ndtr(size / tau)) / (tau * math.sqrt(2 * math.pi))
        return density * math.exp(d * harm / variance - d * d / (2 * variance))

    peak = max(0.0, (harm / variance + size / tau**2) / (1 / variance + 1 / tau**2))
    value = quad(integrand, 0.0, 0.5, points=[peak], epsabs=0, epsrel=1e-12, limit=400)[0]
    assert math.exp(float(log_e(harm, variance, tau, size))) == pytest.approx(value, rel=1e-9)


def test_a_size_brings_forward_what_is_near_it_at_the_cost_of_what_is_not() -> None:
    v = 1.4e-4
    assert float(log_e(0.04, v, 0.02, 0.04)) > float(log_e(0.04, v, 0.04)) + 0.3
    assert float(log_e(0.01, v, 0.02, 0.04)) < float(log_e(0.01, v, 0.04))


@given(h=st.floats(-3, 5), v=st.floats(0.1, 1e3), rho=st.floats(0.1, 100))
def test_it_agrees_with_the_published_one_sided_normal_mixture(h: float, v: float, rho: float) -> None:
    """Howard et al., one-sided normal mixture of a sum s with intrinsic time v:
    log[2 sqrt(rho / (v + rho))] + s^2 / (2 (v + rho)) + log Phi(s / sqrt(v + rho)); here s = h/V, v = 1/V."""
    s = h * v
    published = 0.5 * math.log(4 * rho / (v + rho)) + s * s / (2 * (v + rho)) + log_ndtr(s / math.sqrt(v + rho))
    assert float(log_e(h, 1 / v, 1 / math.sqrt(rho))) == pytest.approx(published, rel=1e-9, abs=1e-9)


@given(h=sizes, v=variances, tau=taus, unit=st.floats(1e-3, 1e3))
def test_the_unit_does_not_matter(h: float, v: float, tau: float, unit: float) -> None:
    scaled = float(log_e(h * unit, v * unit**2, tau * unit))
    assert scaled == pytest.approx(float(log_e(h, v, tau)), rel=1e-9, abs=1e-9)


@given(a=sizes, b=sizes, v=variances, tau=taus)
def test_more_harm_is_more_evidence(a: float, b: float, v: float, tau: float) -> None:
    low, high = sorted((a, b))
    assert float(log_e(low, v, tau)) <= float(log_e(high, v, tau)) + 1e-9


def test_extremes_stay_finite() -> None:
    found = log_e([1e3, -1e3, 1e-160, 0.0], [1e-12, 1e-12, 1e-300, 1e300], 0.03)
    assert np.isfinite(found).all()
    assert found[0] == pytest.approx(5e17)
    assert float(log_e(5.0, np.inf, 0.03)) == 0.0


@pytest.mark.parametrize(("variance", "tau"), [(0.0, 1.0), (-1.0, 1.0), (float("nan"), 1.0), (1.0, 0.0)])
def test_nonsense_is_refused(variance: float, tau: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        log_e(0.0, variance, tau)
    with pytest.raises(ValueError, match="without a sign"):
        log_e(0.0, 1.0, 1.0, -0.1)


@pytest.mark.parametrize("center", [0.0, 0.4])
def test_peeking_does_not_raise_false_alarms(center: float) -> None:
    """4,000 harmless streams of 500 observations, looked at after each: a mean of 1 at most, and 20 is reached by at
    most 5 %."""
    noise = np.random.default_rng(1).normal(size=(4000, 500))
    n = np.arange(1, 501)
    values = log_e(noise.cumsum(axis=1) / n, 1 / n, 0.2, center)
    assert np.exp(values[:, -1]).mean() < 1.15
    reached = float((values.max(axis=1) >= math.log(20)).mean())
    assert 0.01 < reached <= 0.05


def test_the_interval_covers_at_all_times_together() -> None:
    noise = np.random.default_rng(2).normal(size=(2000, 500))
    n = np.arange(1, 501)
    outside = np.abs(noise.cumsum(axis=1) / n) > half_width(1 / n, 0.2, 0.05)
    assert 0.005 < float(outside.any(axis=1).mean()) <= 0.05


def test_evidence_for_harmlessness_grows_as_the_harm_falls_below_the_margin() -> None:
    at, below = log_e_noninferior([0.02, 0.0], 4e-5, 0.02, 1 / 3)
    assert float(at) < 0 < math.log(20) < float(below)
