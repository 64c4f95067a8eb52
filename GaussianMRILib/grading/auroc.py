"""How well probabilities of grades separate the grades: AUROC with intervals, and calibration.

Source: "Rendering Novel Views of MRI using 3D Gaussian Splatting", section 5.1: one-vs-rest AUROC by class, and their mean.
A class that no case has makes an AUROC undefined: None, never a number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError


@dataclass(frozen=True)
class Interval:
    """A value and its bootstrap interval.

    Attributes:
        value: None where it is undefined.
        low, high: of the interval, None where more than half of the resamples have no value.
        level: of confidence, 0.95 for 95 %.
        resamples: with a value.
    """

    value: float | None
    low: float | None
    high: float | None
    level: float
    resamples: int

    @property
    def text(self) -> str:
        """ "0.812 (0.771 to 0.850)"; "undefined" without a value."""
        if self.value is None:
            return "undefined"
        if self.low is None or self.high is None:
            return f"{self.value:.3f} (no interval)"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class PairedBootstrap:
    """Macro AUROCs of several methods on the same cases.

    Attributes:
        methods: interval by name.
        differences: interval of (first - second) by (first, second), from the same resamples for both.
    """

    methods: dict[str, Interval]
    differences: dict[tuple[str, str], Interval]


@dataclass(frozen=True)
class Bin:
    """Cases whose most probable grade has a probability of `low` to `high`: how many, its mean, the share it is right in."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


def class_aurocs(probabilities: ArrayLike, labels: ArrayLike) -> tuple[float | None, ...]:
    """One-vs-rest AUROC of every class, None where all or none of the cases have it.

    Args:
        probabilities: (n, classes).
        labels: (n,) number of the true class.

    Raises:
        GaussianMRIError: shapes that do not belong together, NaN, or a label that is no class.
    """
    from sklearn.metrics import roc_auc_score

    p, y = _checked(probabilities, labels)
    return tuple(
        float(roc_auc_score(y == k, p[:, k])) if 0 < (y == k).sum() < len(y) else None
        for k in range(p.shape[1])
    )


def macro_auroc(probabilities: ArrayLike, labels: ArrayLike) -> float | None:
    """Mean of `class_aurocs`; None when one of them is."""
    return macro_mean(class_aurocs(probabilities, labels))


def macro_mean(values: Sequence[float | None]) -> float | None:
    """Mean of what `class_aurocs` gave; None when one of them is."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if len(defined) == len(values) else None


def bootstrap(
    probabilities: ArrayLike,
    labels: ArrayLike,
    patients: Sequence[str] | None = None,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Macro AUROC with a percentile interval; the arguments are those of `paired_bootstrap`."""
    return paired_bootstrap({"": probabilities}, labels, patients, resamples, level, seed).methods[""]


def paired_bootstrap(
    methods: Mapping[str, ArrayLike],
    labels: ArrayLike,
    patients: Sequence[str] | None = None,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> PairedBootstrap:
    """Macro AUROCs of methods on the same cases, and their differences, with percentile intervals.

    Every resample draws patients with replacement, with all their cases, and all methods are judged on the same draws, so
    that what makes a case hard for all of them is not in the difference.

    Args:
        methods: probabilities (n, classes) by name.
        labels: (n,).
        patients: (n,) whose case it is; None: every case is of another patient.
        resamples: how many; those in which a class is missing have no value.
        level: 0.95 for 95 %.
        seed: of the draws.

    Raises:
        GaussianMRIError: as `class_aurocs`, or methods or patients of other lengths.
    """
    checked = {name: _checked(p, labels) for name, p in methods.items()}
    y = next(iter(checked.values()))[1]
    groups = (
        np.arange(len(y)) if patients is None else np.unique(np.asarray(patients), return_inverse=True)[1]
    )
    if len(groups) != len(y):
        raise GaussianMRIError(f"{len(groups)} patients do not belong to {len(y)} cases.")
    number = int(groups.max()) + 1
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(number, np.full(number, 1 / number), size=resamples)
    counts = draws[:, groups].astype(np.float64)  # (resamples, n)
    values = {name: macro_auroc(p, y) for name, (p, _) in checked.items()}
    spread = {name: _resampled_macro(p, y, counts) for name, (p, _) in checked.items()}
    names = list(checked)
    differences = {}
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            first, second = values[a], values[b]
            both = None if first is None or second is None else first - second
            differences[a, b] = _interval(both, spread[a] - spread[b], level)
    return PairedBootstrap(
        {name: _interval(values[name], spread[name], level) for name in names}, differences
    )


def _interval(value: float | None, spread: NDArray[np.float64], level: float) -> Interval:
    defined = spread[~np.isnan(spread)]
    if value is None or 2 * len(defined) <= len(spread):
        return Interval(value, None, None, level, len(defined))
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), level, len(defined))


def _resampled_macro(
    p: NDArray[np.float64], y: NDArray[np.int64], counts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Macro AUROC of every resample, NaN where it is undefined.

    scikit-learn's takes a millisecond for each, which is minutes for a table. The AUROC is the share of pairs of a case of
    the class and one of another that are in the right order, ties counting half (Mann and Whitney).

    Args:
        p: (n, classes).
        y: (n,).
        counts: (resamples, n) how often each case was drawn.
    """
    total = np.zeros(len(counts))
    for k in range(p.shape[1]):
        order = np.argsort(p[:, k], kind="stable")
        starts = np.flatnonzero(np.diff(p[order, k], prepend=-np.inf))  # of cases with the same probability
        ordered = counts[:, order]
        positive = np.add.reduceat(ordered * (y == k)[order], starts, axis=1)
        negative = np.add.reduceat(ordered * (y != k)[order], starts, axis=1)
        below = np.cumsum(negative, axis=1) - negative / 2
        with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is wanted
            total += (positive * below).sum(axis=1) / (positive.sum(axis=1) * negative.sum(axis=1))
    return total / p.shape[1]


def reliability(probabilities: ArrayLike, labels: ArrayLike, bins: int = 10) -> list[Bin]:
    """Reliability table of the most probable grade, in bins of equal width (Guo et al. 2017, section 2)."""
    p, y = _checked(probabilities, labels)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y
    edges = np.linspace(0, 1, bins + 1)
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    rows = []
    for n in range(bins):
        inside = which == n
        count = int(inside.sum())
        means = (float(confidence[inside].mean()), float(right[inside].mean())) if count else (None, None)
        rows.append(Bin(float(edges[n]), float(edges[n + 1]), count, *means))
    return rows


def calibration_error(table: Sequence[Bin]) -> float:
    """Expected calibration error of a reliability table: mean over the cases of |confidence - accuracy| of their bin."""
    gaps = [
        (b.count, abs(b.confidence - b.accuracy))
        for b in table
        if b.confidence is not None and b.accuracy is not None
    ]
    return sum(count * gap for count, gap in gaps) / max(1, sum(count for count, _ in gaps))


def _checked(probabilities: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    if p.ndim != 2 or y.shape != p.shape[:1] or not len(y) or not np.isfinite(p).all():
        raise GaussianMRIError(
            f"Probabilities (n, classes), all finite, and labels (n,) are needed; got {p.shape} and {y.shape}."
        )
    if not np.isin(y, np.arange(p.shape[1])).all():
        raise GaussianMRIError(f"Labels must be 0 to {p.shape[1] - 1}.")
    return p, y.astype(np.int64)
