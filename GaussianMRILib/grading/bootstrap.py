"""Intervals by drawing patients again: every measure, and the differences between methods, on the same draws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..errors import GaussianMRIError
from ..interruption import checkpoint
from .measures import Floats, Measure, checked, drawn_macro_auroc, value_of

_CELLS = 4_000_000
"""Cases times draws that are worked on at a time: 32 MB for each array."""


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
    """One measure of several methods on the same cases.

    Attributes:
        methods: interval by name.
        differences: interval of (first - second) by (first, second), from the same resamples for both.
    """

    methods: dict[str, Interval]
    differences: dict[tuple[str, str], Interval]


def bootstrap(
    probabilities: ArrayLike,
    labels: ArrayLike,
    patients: Sequence[str] | None = None,
    *,
    measure: Measure = drawn_macro_auroc,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """A measure with a percentile interval; the arguments are those of `paired_bootstrap`."""
    found = paired_bootstrap(
        {"": probabilities}, labels, patients, measure=measure, resamples=resamples, level=level, seed=seed
    )
    return found.methods[""]


def paired_bootstrap(
    methods: Mapping[str, ArrayLike],
    labels: ArrayLike,
    patients: Sequence[str] | None = None,
    *,
    measure: Measure = drawn_macro_auroc,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> PairedBootstrap:
    """A measure of methods on the same cases, and their differences, with percentile intervals.

    Every resample draws patients with replacement, with all their cases, and all methods are judged on the same draws, so
    that what makes a case hard for all of them is not in the difference.

    Args:
        methods: probabilities (n, classes) by name.
        labels: (n,).
        patients: (n,) whose case it is; None: every case is of another patient.
        measure: one of `measures.MEASURES`, or made like them.
        resamples: how many; those in which the measure is undefined have no value.
        level: 0.95 for 95 %.
        seed: of the draws, which are the same for every measure.

    Raises:
        GaussianMRIError: as `measures.checked`, methods or patients of other lengths, or a case without a patient.
    """
    tables = {name: checked(p, labels) for name, p in methods.items()}
    y = next(iter(tables.values()))[1]
    spread: dict[str, list[Floats]] = {name: [] for name in tables}
    for counts in _draws(len(y), patients, resamples, seed):
        checkpoint()
        for name, table in tables.items():
            spread[name].append(measure(*table, counts))
    values = {name: value_of(measure, *table) for name, table in tables.items()}
    drawn = {name: np.concatenate(parts) for name, parts in spread.items()}
    names = list(tables)
    differences = {}
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            first, second = values[a], values[b]
            both = None if first is None or second is None else first - second
            differences[a, b] = _interval(both, drawn[a] - drawn[b], level)
    return PairedBootstrap({name: _interval(values[name], drawn[name], level) for name in names}, differences)


def _draws(cases: int, patients: Sequence[str] | None, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each case was drawn (some resamples, cases), in parts that together are all resamples."""
    if patients is not None and len(patients) != cases:
        raise GaussianMRIError(f"{len(patients)} patients do not belong to {cases} cases.")
    if patients is not None and not all(map(str, patients)):
        missing = [str(patient) for patient in patients].index("") + 1
        raise GaussianMRIError(
            f"Case {missing} of {cases} does not say whose it is, and patients are what is drawn. Name its patient."
        )
    groups = np.arange(cases) if patients is None else np.unique(np.asarray(patients), return_inverse=True)[1]
    number = int(groups.max()) + 1
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(number, np.full(number, 1 / number), size=resamples)
    parts = max(1, -(-resamples * cases // _CELLS))
    return (part[:, groups].astype(np.float64) for part in np.array_split(draws, parts))


def _interval(value: float | None, spread: Floats, level: float) -> Interval:
    defined = spread[~np.isnan(spread)]
    if value is None or 2 * len(defined) <= len(spread):
        return Interval(value, None, None, level, len(defined))
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), level, len(defined))
