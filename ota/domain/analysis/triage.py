"""Which households need a fix: segments ranked by how much more they complain than the rest of the fleet.

For one segment S and everybody else, O, over the same days; the test takes S for frames drawn at random from groups of
frames that play about equally often:

    P      = K / N,  r_j = k_j - P n_j,  T = sum_S r_j
    T0     = sum_b s_b mean_b(r),   V0 = sum_b s_b o_b / (f_b - 1) mu2_b
    M0     = sum_b s_b o_b (o_b - s_b) / ((f_b - 1) (f_b - 2)) mu3_b
    p      = P(X >= T - T0 - 1/2),  X of Pearson's type III with mean 0, variance V0 and third moment M0
    q      = min over larger p-values p_(l) of  p_(l) m (1 + 1/2 + ... + 1/m) / l

The interval asks the same of every ratio R that may be true, with moments mu' as the frames of O have them (as all
frames have them in groups where O has few, and where S is most of the fleet):

    ratio  = K_S / E,  E = N_S K_O / N_O,  w = N_S / N_O
    V(R)   = max(R, R^2) sum_b s_b mu2'_b + R^2 w^2 sum_b o_b mu2'_b
    M(R)   = max(R, R^3) sum_b s_b mu3'_b - R^3 w^3 sum_b o_b mu3'_b
    all R with  P(X >= K_S - R E - 1/2) > alpha/2  and  P(X <= K_S - R E + 1/2) > alpha/2

| symbol | meaning | unit |
| --- | --- | --- |
| k_j, n_j | complaint-days and playbacks of frame j | days, 1 |
| K, N | their sums: of all frames, of S, of O | |
| b; f_b, s_b, o_b | group, by quantiles of n_j; its frames, those in S, those in O | |
| mu2_b, mu3_b | second and third central moments of r in group b | |
| R | how many times as often S complains | ratio |
| V, M | variance and third moment of K_S - R E | |
| m, l | segments compared; rank of a p-value among them | |

The frame is the unit: how much the complaints of one household cluster is seen in frames that play as often, and no law
is assumed for it. Such counts are skewed, and with many segments it is the far tail that decides; a normal tail there
is several times too light. The third moment puts that right.

Segments overlap, and "Mandarin" and "not Mandarin" are one fact told twice, so their p-values depend on each other in
every way: the correction is the one that holds under any dependence. An excess may come from another segment that this
one overlaps with: ``crossed`` makes segments of two conditions. This is a look at days that lie behind, for people who
look for causes. It is not valid at every look together; a verdict on a release is ``verdict``'s business.

Sources: Mielke, Berry, "Permutation methods: a distance function approach" (Pearson type III for sums over units
drawn at random); Miettinen, Nurminen, "Comparative analysis of two rates" (intervals by inverting the test); Benjamini,
Yekutieli, "The control of the false discovery rate in multiple testing under dependency".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc, gammaincc, ndtr  # type: ignore[import-untyped]

from ota.domain.analysis.policy import Policy
from ota.domain.analysis.table import FloatArray, IntArray

_ROUNDS = 60
"""Halvings of the interval's bracket, which spans 12 powers of ten: to the last digits of a float."""
_WIDE = 1e6
_SMALL_SKEW = 1e-4
"""Below, Pearson's type III is the normal distribution to six digits."""
_POWERS = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2), (3, 0), (2, 1), (1, 2), (0, 3))
"""Powers of k and n whose sums give all moments of k - p n, whatever p."""


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Frames for which ``key`` has ``value``; ``frames`` are indices, each once."""

    key: str
    value: str
    frames: IntArray


@dataclass(frozen=True, slots=True)
class SegmentExcess:
    """One segment against the rest. Rates are complaint-days per playback; ``low`` and ``high`` are the ratio's
    interval, None where it has no upper end; ``notable``: an excess at the policy's false-discovery rate."""

    key: str
    value: str
    frames: int
    playbacks: int
    complaints: int
    rate: float
    rest_rate: float
    ratio: float
    low: float
    high: float | None
    p_value: float
    q_value: float
    notable: bool


def rank(
    segments: Sequence[Segment], complaints: FloatArray, playbacks: FloatArray, policy: Policy
) -> tuple[SegmentExcess, ...]:
    """The segments that are large enough to be compared, those with the highest lower end first. ``complaints`` and
    ``playbacks``, shape (frames,), are every frame's complaint-days and playbacks over the same days. Frames that did
    not play are nobody's. Raises ValueError with one sentence on what is wrong."""
    _check(segments, complaints, playbacks)
    if not segments or not len(playbacks):
        return ()
    group = _groups(playbacks, policy.segment_strata)
    inside = _sums(segments, group, complaints, playbacks, policy.segment_strata)
    everybody = Segment("", "", np.arange(len(playbacks)))
    total = _sums([everybody], group, complaints, playbacks, policy.segment_strata)
    outside = total - inside
    count, rest = inside.sum(axis=1), outside.sum(axis=1)
    (frames, k, n), (rest_frames, rest_k, rest_n) = count[:, :3].T, rest[:, :3].T
    rest_rate = np.divide(rest_k, rest_n, out=np.zeros(len(k)), where=rest_n > 0)
    large = (np.minimum(frames, rest_frames) >= policy.segment_frames) & (rest_rate * n >= policy.segment_expected)
    if not large.any():
        return ()
    at: list[int] = np.flatnonzero(large).tolist()
    excess = _Excess.of(inside[at], outside[at], total[0], policy.segment_frames)
    p = _drawn(inside[at], total[0])
    q = yekutieli(p)
    low, high = excess.interval(policy.alpha)
    rows = [
        SegmentExcess(
            key=segments[i].key,
            value=segments[i].value,
            frames=int(frames[i]),
            playbacks=int(n[i]),
            complaints=int(k[i]),
            rate=float(k[i] / n[i]),
            rest_rate=float(rest_rate[i]),
            ratio=float(k[i] / n[i] / rest_rate[i]),
            low=float(low[place]),
            high=float(high[place]) if high[place] < _WIDE else None,
            p_value=float(p[place]),
            q_value=float(q[place]),
            notable=bool(q[place] <= policy.false_discovery),
        )
        for place, i in enumerate(at)
    ]
    return tuple(sorted(rows, key=lambda row: (-row.low, -row.ratio, row.key, row.value)))


def crossed(segments: Sequence[Segment], first: str, second: str, policy: Policy) -> list[Segment]:
    """Segments of two conditions, one of each key, that have the policy's least number of frames."""
    ones = [segment for segment in segments if segment.key == first]
    others = [segment for segment in segments if segment.key == second]
    found = []
    for one in ones:
        for other in others:
            both = np.intersect1d(one.frames, other.frames, assume_unique=True)
            if len(both) >= policy.segment_frames:
                found.append(Segment(f"{first} & {second}", f"{one.value} & {other.value}", both))
    return found


def yekutieli(p: FloatArray) -> FloatArray:
    """q-values under any dependence: reject those at most x, and the share of false ones is at most x on average."""
    size = len(p)
    order = np.argsort(p, kind="stable")
    ranks = np.arange(1, size + 1)
    scaled = p[order] * size * (1.0 / ranks).sum() / ranks
    q = np.empty(size)
    q[order] = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1])
    return q


def _drawn(inside: FloatArray, total: FloatArray) -> FloatArray:
    """p of each segment, from sums of ``_POWERS``, shapes (segments, groups, powers) and (groups, powers)."""
    (f, k, n), s = total[:, :3].T, inside[:, :, 0]
    rate = k.sum() / n.sum()
    second, third = _moments(total[None], np.full((1, 1), rate))
    mean = (k - rate * n) / np.maximum(f, 1.0)
    seen = (inside[:, :, 1] - rate * inside[:, :, 2] - s * mean).sum(axis=1)
    spread = s * (f - s) / np.maximum(f - 1, 1.0)
    variance = (spread * second).sum(axis=1)
    lean = (spread * (f - 2 * s) / np.maximum(f - 2, 1.0) * third).sum(axis=1)
    some = variance > 0
    root = np.sqrt(np.where(some, variance, 1.0))
    return np.where(some, pearson_tail((seen - 0.5) / root, lean / root**3), 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class _Excess:
    """K_S, E, and what V and M are made of; all of shape (segments,)."""

    seen: FloatArray
    expected: FloatArray
    second: FloatArray
    third: FloatArray
    rest_second: FloatArray
    rest_third: FloatArray

    @classmethod
    def of(cls, inside: FloatArray, outside: FloatArray, total: FloatArray, least: int) -> "_Excess":
        """From sums of ``_POWERS``, shape (segments, groups, powers); groups in which few are outside take everybody's
        moments."""
        rest = outside.sum(axis=1)
        rate = rest[:, 1] / rest[:, 2]
        known = (outside[:, :, :1] >= least) & (rest[:, 0] >= total[:, 0].sum() / 2)[:, None, None]
        second, third = _moments(np.where(known, outside, total[None]), rate[:, None])
        s, o = inside[:, :, 0], outside[:, :, 0]
        k, n = inside[:, :, 1].sum(axis=1), inside[:, :, 2].sum(axis=1)
        scale = n / rest[:, 2]
        return cls(
            seen=k,
            expected=rate * n,
            second=(s * second).sum(axis=1),
            third=(s * third).sum(axis=1),
            rest_second=scale**2 * (o * second).sum(axis=1),
            rest_third=scale**3 * (o * third).sum(axis=1),
        )

    def above(self, ratio: FloatArray) -> FloatArray:
        """The chance of as many complaints as were seen, or more, if ``ratio`` is true."""
        return self._tail(self.seen - 0.5 - ratio * self.expected, ratio, upper=True)

    def below(self, ratio: FloatArray) -> FloatArray:
        """The chance of as many or fewer."""
        return self._tail(self.seen + 0.5 - ratio * self.expected, ratio, upper=False)

    def _tail(self, x: FloatArray, ratio: FloatArray, upper: bool) -> FloatArray:
        variance = np.maximum(ratio, ratio**2) * self.second + ratio**2 * self.rest_second
        third = np.maximum(ratio, ratio**3) * self.third - ratio**3 * self.rest_third
        return pearson_tail(x / np.sqrt(variance), third / variance**1.5, upper)

    def interval(self, alpha: float) -> tuple[FloatArray, FloatArray]:
        """Both ends, by halving: one tail grows with R, the other shrinks."""
        edge = np.full(len(self.seen), np.log(_WIDE))
        return (
            np.exp(_halve(lambda x: self.above(np.exp(x)) < alpha / 2, -edge, edge)) * (self.seen > 0),
            np.exp(_halve(lambda x: self.below(np.exp(x)) > alpha / 2, -edge, edge)),
        )


def pearson_tail(z: FloatArray, skew: FloatArray, upper: bool = True) -> FloatArray:
    """P(Z >= z), or P(Z <= z), of Pearson's type III with mean 0, variance 1 and ``skew``: a shifted gamma
    distribution, mirrored where the skew is negative."""
    size = np.abs(skew)
    flat = size < _SMALL_SKEW
    g = np.where(flat, 1.0, size)
    shape = 4 / g**2
    at = np.maximum(0.0, shape + np.where(skew < 0, -z, z) * 2 / g)
    right = (skew >= 0) == upper  # the tail asked for is the gamma distribution's own upper one
    tail = np.where(right, gammaincc(shape, at), gammainc(shape, at))
    return np.asarray(np.where(flat, ndtr(-z if upper else z), tail), dtype=np.float64)


def _check(segments: Sequence[Segment], complaints: FloatArray, playbacks: FloatArray) -> None:
    if complaints.shape != playbacks.shape or complaints.ndim != 1:
        raise ValueError("Give every frame's complaint-days and playbacks: two columns of the same length.")
    if not (np.isfinite(complaints).all() and np.isfinite(playbacks).all()):
        raise ValueError("Complaint-days and playbacks are numbers: leave out the frames of which nothing is known.")
    if len(complaints) and min(complaints.min(), playbacks.min()) < 0:
        raise ValueError("Complaint-days and playbacks cannot be below 0.")
    for segment in segments:
        ids = segment.frames
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < len(playbacks):
            raise ValueError(f"Segment {segment.key} {segment.value} names a frame that is not there.")
        if len(ids) and int(np.bincount(ids).max()) > 1:
            raise ValueError(f"Segment {segment.key} {segment.value} names a frame twice.")


def _groups(playbacks: FloatArray, groups: int) -> IntArray:
    """Each frame's group b, by quantiles of the playbacks of those that played."""
    playing = playbacks[playbacks > 0]
    if not len(playing):
        return np.zeros(len(playbacks), dtype=np.int64)
    cuts = np.quantile(playing, np.arange(1, groups) / groups)
    return np.searchsorted(cuts, playbacks, side="left").astype(np.int64)


def _sums(
    segments: Sequence[Segment], group: IntArray, complaints: FloatArray, playbacks: FloatArray, groups: int
) -> FloatArray:
    """Sums of ``_POWERS`` over each segment's frames that played, shape (segments, groups, powers)."""
    columns = [complaints**a * playbacks**b for a, b in _POWERS]
    found = np.zeros((len(segments), groups, len(_POWERS)))
    for row, segment in enumerate(segments):
        ids = segment.frames[playbacks[segment.frames] > 0]
        place = group[ids]
        for column, values in enumerate(columns):
            found[row, :, column] = np.bincount(place, values[ids], groups)
    return found


def _moments(sums: FloatArray, rate: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Second and third central moments of r = k - p n in each group, from sums of ``_POWERS``."""
    size = np.maximum(sums[:, :, 0], 1.0)
    k, n, kk, kn, nn, kkk, kkn, knn, nnn = (sums[:, :, i] / size for i in range(1, len(_POWERS)))
    p = rate
    one = k - p * n
    two = kk - 2 * p * kn + p**2 * nn
    three = kkk - 3 * p * kkn + 3 * p**2 * knn - p**3 * nnn
    return np.maximum(two - one**2, 0.0), three - 3 * one * two + 2 * one**3


def _halve(left: Callable[[FloatArray], NDArray[np.bool_]], low: FloatArray, high: FloatArray) -> FloatArray:
    """Where ``left``, true below and false above, changes between ``low`` and ``high``."""
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        below = left(middle)
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2
