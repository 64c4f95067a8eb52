"""How well probabilities of grades agree with the reported grades: the measures that the literature gives.

Every measure takes the number of times that each case counts, for many draws at once, because an interval needs it for
thousands of draws and scikit-learn takes about a millisecond for each. The values are scikit-learn's. A measure that a draw
leaves undefined is NaN there, and None for one table: never a number that stands for less than it says.

Sources: "Rendering Novel Views of MRI using 3D Gaussian Splatting", section 5.1 (one-vs-rest AUROC by class, and their
mean); Cohen 1960 and 1968 (kappa and weighted kappa); Brodersen et al., "The balanced accuracy and its posterior
distribution", ICPR 2010; the evaluation page of the RSNA 2024 Lumbar Spine Degenerative Classification challenge (weights of
the log loss).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
#: (probabilities (n, classes), labels (n,), counts (draws, n)) -> value of each draw (draws,), NaN where it is undefined.
Measure = Callable[[Floats, Labels, Floats], Floats]

#: Of cases by grade in the log loss of the RSNA 2024 challenge, see `weighted_log_loss`.
RSNA_WEIGHTS = (1.0, 2.0, 4.0)


# ---- tables that are judged ----------------------------------------------------------------------------------


def checked(scores: ArrayLike, labels: ArrayLike) -> tuple[Floats, Labels]:
    """Scores (n, classes) and labels (n,), which may be judged by their order.

    Raises:
        GaussianMRIError: shapes that do not belong together, no case, NaN, or a label that is no class.
    """
    p, y = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if p.ndim != 2 or y.shape != p.shape[:1] or not len(y) or not np.isfinite(p).all():
        raise GaussianMRIError(
            f"Probabilities (n, classes), all finite, and labels (n,) are needed; got {p.shape} and {y.shape}."
        )
    if not np.isin(y, np.arange(p.shape[1])).all():
        raise GaussianMRIError(f"Labels must be 0 to {p.shape[1] - 1}.")
    return p, y.astype(np.int64)


def checked_probabilities(probabilities: ArrayLike, labels: ArrayLike) -> tuple[Floats, Labels]:
    """The same of what has to be probabilities; rounding of 0.001 in their sum is allowed.

    Raises:
        GaussianMRIError: as `checked`, or a case whose numbers are below 0 or do not add up to 1.
    """
    p, y = checked(probabilities, labels)
    wrong = np.flatnonzero((p < 0).any(axis=1) | (np.abs(p.sum(axis=1) - 1) > 1e-3))
    if len(wrong):
        row = ", ".join(f"{value:.4g}" for value in p[wrong[0]])
        raise GaussianMRIError(
            f"Row {wrong[0] + 1} of the probabilities ({row}) is not 0 or more and does not add up to 1: {len(wrong)} of "
            f"{len(p)} rows are no probabilities. Give the output of a softmax."
        )
    return p, y


def value_of(measure: Measure, probabilities: ArrayLike, labels: ArrayLike) -> float | None:
    """A measure of one table, every case counting once; None where it is undefined.

    Args:
        measure: such as those of `MEASURES`.
        probabilities: (n, classes).
        labels: (n,) number of the true class.

    Raises:
        GaussianMRIError: see `checked`.
    """
    p, y = checked(probabilities, labels)
    value = float(measure(p, y, np.ones((1, len(y))))[0])
    return None if np.isnan(value) else value


# ---- AUROC ---------------------------------------------------------------------------------------------------


def class_aurocs(probabilities: ArrayLike, labels: ArrayLike) -> tuple[float | None, ...]:
    """One-vs-rest AUROC of every class, None where all or none of the cases have it.

    Args:
        probabilities: (n, classes).
        labels: (n,) number of the true class.

    Raises:
        GaussianMRIError: shapes that do not belong together, NaN, or a label that is no class.
    """
    from sklearn.metrics import roc_auc_score

    p, y = checked(probabilities, labels)
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


def chance_auroc(labels: ArrayLike) -> float:
    """What guessing can reach as the macro AUROC of cases with these labels (n,).

    One half and twice the standard deviation that an AUROC has without any connection, sqrt((n + m + 1) / (12 n m)) for n
    cases of a class and m others (Mann and Whitney 1947), the mean over the classes that can be told apart; else 1.
    """
    of_class = np.bincount(np.asarray(labels, dtype=np.int64), minlength=1)
    total = of_class.sum()
    products = of_class * (total - of_class)
    spreads = np.sqrt((total + 1) / (12 * products[products > 0]))
    return min(1.0, 0.5 + 2 * float(spreads.mean())) if len(spreads) else 1.0


def drawn_macro_auroc(p: Floats, y: Labels, counts: Floats) -> Floats:
    """Macro AUROC: the share of pairs of a case of the class and another that are in order, ties half (Mann and Whitney)."""
    total = np.zeros(len(counts))
    for k in range(p.shape[1]):
        order = np.argsort(p[:, k], kind="stable")
        starts = np.flatnonzero(np.diff(p[order, k], prepend=-np.inf))  # of cases with the same probability
        ordered = counts[:, order]
        positive = np.add.reduceat(ordered * (y == k)[order], starts, axis=1)
        negative = np.add.reduceat(ordered * (y != k)[order], starts, axis=1)
        below = np.cumsum(negative, axis=1) - negative / 2
        total += _ratio((positive * below).sum(axis=1), positive.sum(axis=1) * negative.sum(axis=1))
    return total / p.shape[1]


# ---- agreement of the most probable grade ----------------------------------------------------------------------


def kappa(p: Floats, y: Labels, counts: Floats, *, power: int) -> Floats:
    """Cohen's kappa, disagreements weighted by their distance in grades to a power: 1 linear, 2 quadratic.

    Undefined where all cases have one grade: it would be 0, or 0 / 0, whatever the predictions are.
    """
    table = _confusion(p, y, counts)
    classes, true, predicted = p.shape[1], table.sum(axis=2), table.sum(axis=1)
    distance = np.abs(np.subtract.outer(np.arange(classes), np.arange(classes))).astype(np.float64) ** power
    expected = (true[:, :, None] * predicted[:, None, :] * distance).sum(axis=(1, 2))
    result = 1 - _ratio((table * distance).sum(axis=(1, 2)) * true.sum(axis=1), expected)
    return np.where((true > 0).sum(axis=1) > 1, result, np.nan)


def balanced_accuracy(p: Floats, y: Labels, counts: Floats) -> Floats:
    """Mean share of right grades over the true grades. Undefined where a grade is missing: of others it is another mean."""
    table = _confusion(p, y, counts)
    return _ratio(np.diagonal(table, axis1=1, axis2=2), table.sum(axis=2)).mean(axis=1)


def _confusion(p: Floats, y: Labels, counts: Floats) -> Floats:
    """(draws, true, predicted); of equal probabilities the milder grade is predicted."""
    classes = p.shape[1]
    cells = np.eye(classes * classes)[y * classes + p.argmax(axis=1)]
    return (counts @ cells).reshape(-1, classes, classes)


# ---- severe against the rest ---------------------------------------------------------------------------------


def sensitivity(p: Floats, y: Labels, counts: Floats, *, threshold: float) -> Floats:
    """Share of the severe cases (the last class) whose probability of it is at least `threshold`."""
    severe = (y == p.shape[1] - 1).astype(np.float64)
    return _ratio(counts @ (severe * (p[:, -1] >= threshold)), counts @ severe)


def specificity(p: Floats, y: Labels, counts: Floats, *, threshold: float) -> Floats:
    """Share of the other cases whose probability of being severe is below `threshold`."""
    other = (y != p.shape[1] - 1).astype(np.float64)
    return _ratio(counts @ (other * (p[:, -1] < threshold)), counts @ other)


# ---- probabilities -------------------------------------------------------------------------------------------


def weighted_log_loss(p: Floats, y: Labels, counts: Floats) -> Floats:
    """Log loss of the RSNA 2024 challenge: sum of w ln(1/p) of the true grade, divided by the sum of w.

    w is 1 for normal/mild, 2 for moderate, 4 for severe (`RSNA_WEIGHTS`). Probabilities below the float64 epsilon, 2.2e-16,
    count as that, as in scikit-learn. The challenge takes it of each condition, both sides and all levels together; its
    score is the mean of these and a term for any severe canal stenosis.
    """
    weights = np.asarray(RSNA_WEIGHTS)[y]
    loss = -np.log(np.maximum(p[np.arange(len(y)), y], np.finfo(np.float64).eps))
    return _ratio(counts @ (weights * loss), counts @ weights)


def _ratio(top: Floats, bottom: Floats) -> Floats:
    """NaN for 0 / 0, which is what undefined measures are."""
    with np.errstate(invalid="ignore"):
        quotient: Floats = np.asarray(top) / np.asarray(bottom)
    return quotient


#: What needs no threshold, by name.
MEASURES: dict[str, Measure] = {
    "macro_auroc": drawn_macro_auroc,
    "kappa_linear": functools.partial(kappa, power=1),
    "kappa_quadratic": functools.partial(kappa, power=2),
    "balanced_accuracy": balanced_accuracy,
    "log_loss": weighted_log_loss,
}


def severe_measures(threshold: float) -> dict[str, Measure]:
    """Severe against the rest where severe means a probability of at least `threshold`."""
    return {
        "severe_sensitivity": functools.partial(sensitivity, threshold=threshold),
        "severe_specificity": functools.partial(specificity, threshold=threshold),
    }
