"""Calibration: whether grades of a probability are right as often as it says, and how to make them so.

Sources: Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017 (reliability, expected
calibration error, temperature scaling); Rahaman and Thiery, "Uncertainty quantification and deep ensembles", NeurIPS 2021
(the temperature comes after the mean over views, not before it); Youden, "Index for rating diagnostic tests", 1950.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import GaussianMRIError
from ..files import atomic_write, number
from .measures import Floats, checked_probabilities

TEMPERATURES = (0.05, 20.0)
"""Within these a temperature is looked for; at their ends the validation cases do not determine one."""
_SMALLEST = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class Bin:
    """Cases whose most probable grade has a probability of `low` to `high`: how many, its mean, the share it is right in."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """What was chosen on validation cases, and which: a temperature, and from which probability on a grade counts as severe.

    Attributes:
        temperature: p^(1/T), normalised, are the calibrated probabilities of mean probabilities p.
        threshold: of the calibrated probability of severe, at or above which a disc counts as severe.
        rule: how the threshold was chosen, in words.
        views: of which p is the mean; it holds for this number only.
        cases: validation cases by grade.
        patients: how many they are of.
        input_types, levels: what they show.
        data: the set in the words of who prepared it.
        sha256: of the cases and their grades, which tells two sets apart.
        sensitivity, specificity: of the threshold on them.
        error, raw_error: expected calibration error on them, with the temperature and without.

    Raises:
        GaussianMRIError: numbers that no calibration has.
    """

    temperature: float
    threshold: float
    rule: str
    views: int
    cases: Mapping[str, int]
    patients: int
    input_types: tuple[str, ...]
    levels: tuple[str, ...]
    data: str
    sha256: str
    sensitivity: float
    specificity: float
    error: float
    raw_error: float

    def __post_init__(self) -> None:
        number(self.temperature, "temperature", *TEMPERATURES)
        for name in ("threshold", "sensitivity", "specificity", "error", "raw_error"):
            number(getattr(self, name), name, 0, 1)
        number(self.views, "number of views", 1, 16)
        number(self.patients, "number of patients", 1)
        for count in dict(self.cases).values():
            number(count, "number of cases", 0)
        words = [self.rule, self.data, self.sha256, *self.input_types, *self.levels]
        if not all(isinstance(word, str) for word in words):
            raise GaussianMRIError("A calibration's words are none.")

    @property
    def text(self) -> str:
        """ "Probabilities are calibrated: temperature 1.32, fitted on 45 validation cases of 20 patients (phantom)."."""
        where = f" ({self.data})" if self.data else ""
        return (
            f"Probabilities are calibrated: temperature {self.temperature:.3g}, fitted on {sum(self.cases.values())} "
            f"validation cases of {self.patients} patients{where}."
        )

    def apply(self, probabilities: ArrayLike, views: int) -> Floats:
        """Calibrated probabilities (..., classes) of mean probabilities of `views` views.

        Raises:
            GaussianMRIError: another number of views than it was fitted with.
        """
        self.check_views(views)
        return scaled(probabilities, self.temperature)

    def check_views(self, views: int) -> None:
        """Refuse another number of views than it was fitted with, whose means are of another sharpness.

        Raises:
            GaussianMRIError: see above.
        """
        if views != self.views:
            raise GaussianMRIError(
                f"This network was calibrated with {self.views} views, not {views}. Grade with {self.views} views."
            )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """The inverse of `to_dict`; lists may stand for tuples."""
        plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**plain)


# ---- reliability -----------------------------------------------------------------------------------------------


def reliability(probabilities: ArrayLike, labels: ArrayLike, bins: int = 10) -> list[Bin]:
    """Reliability table of the most probable grade, in bins of equal width (Guo et al. 2017, section 2).

    Raises:
        GaussianMRIError: see `checked_probabilities`.
    """
    p, y = checked_probabilities(probabilities, labels)
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


def reliability_plot(path: str | os.PathLike[str], title: str, tables: Mapping[str, Sequence[Bin]]) -> None:
    """Share of right grades against their mean probability, a line for each table; the larger a dot, the more cases.

    Args:
        path: PNG, SVG or PDF, by its suffix.
        tables: what `reliability` gave, by name.

    Raises:
        GaussianMRIError: matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib import rc_context, style
        from matplotlib.figure import Figure
    except ImportError as error:
        raise GaussianMRIError(
            'A plot needs the Python package matplotlib; install it with `pip install "gaussianmri[grading]"`.'
        ) from error
    with style.context("tableau-colorblind10"), rc_context({"svg.hashsalt": "reliability"}):
        figure = Figure(figsize=(5.6, 5.4 + 0.2 * len(tables)), dpi=100, layout="constrained")
        axes = figure.add_subplot(
            title=title, xlim=(0, 1), ylim=(0, 1),
            xlabel="Mean probability of the most probable grade", ylabel="Share of cases in which it is right",
        )  # fmt: skip
        axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="calibrated")
        for name, table in tables.items():
            seen = [b for b in table if b.count]
            total = sum(b.count for b in seen)
            label = f"{name}: {total} cases, ECE {calibration_error(table):.3f}"
            x, y = np.array([(b.confidence, b.accuracy) for b in seen], np.float64).T
            (line,) = axes.plot(x, y, label=label)
            sizes = [12 + 150 * b.count / total for b in seen]
            axes.scatter(x, y, sizes, color=line.get_color(), alpha=0.7, clip_on=False, zorder=3)
        axes.grid(color="0.9")
        figure.legend(loc="outside lower center", fontsize="small")
        with atomic_write(path) as temporary:
            when = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}  # the same cases make the same file
            figure.savefig(temporary, metadata=when.get(temporary.suffix.lower()))


# ---- what is chosen on validation ------------------------------------------------------------------------------


def scaled(probabilities: ArrayLike, temperature: float) -> Floats:
    """p^(1/T), normalised, along the last axis: the softmax of logits divided by T where p is one of theirs."""
    logits = np.log(np.maximum(np.asarray(probabilities, np.float64), _SMALLEST)) / temperature
    power = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: Floats = power / power.sum(axis=-1, keepdims=True)
    return result


def fit_temperature(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """The temperature with the least log loss on validation cases, each counting once (Guo et al. 2017, section 4.2).

    Args:
        probabilities: (n, classes), means over views.
        labels: (n,) number of the true class.

    Raises:
        GaussianMRIError: as `checked_probabilities`, cases of one grade only, or cases that do not determine it: all of
            them right, which would make every grade certain, or graded no better than by chance.
    """
    from scipy.optimize import minimize_scalar

    p, y = checked_probabilities(probabilities, labels)
    if len(np.unique(y)) < 2:
        raise GaussianMRIError(
            f"All {len(y)} validation cases have one grade, to which nothing can be calibrated. Add others."
        )

    def loss(logarithm: float) -> float:
        right = scaled(p, float(np.exp(logarithm)))[np.arange(len(y)), y]
        return -float(np.log(np.maximum(right, _SMALLEST)).mean())

    low, high = np.log(TEMPERATURES)
    found = float(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6}).x)
    # Where all are right the loss falls to 0 with the temperature, and is 0 in floating point before its end.
    right = bool((p[np.arange(len(y)), y] == p.max(axis=1)).all())
    if right or not low + 0.01 < found < high - 0.01:
        why = "all, or nearly all, are graded right" if right or found < 0 else "they are graded no better than by chance"
        raise GaussianMRIError(
            f"{len(y)} validation cases do not determine a temperature: {why}. Add more of them, or train anew."
        )
    return float(np.exp(found))


def choose_threshold(
    probabilities: ArrayLike, labels: ArrayLike, *, sensitivity: float | None = None
) -> tuple[float, float, float]:
    """From which probability of severe (the last class) on a case counts as severe.

    Args:
        probabilities: (n, classes) of validation cases, calibrated as they will be.
        labels: (n,) number of the true class.
        sensitivity: the highest threshold with at least this one, 0 to 1; None: the one with the largest sum of sensitivity
            and specificity (Youden's index), of equal ones the highest.

    Returns:
        Threshold, sensitivity and specificity.

    Raises:
        GaussianMRIError: as `checked_probabilities`, or no case is severe, or all are.
    """
    from sklearn.metrics import roc_curve

    p, y = checked_probabilities(probabilities, labels)
    severe = y == p.shape[1] - 1
    if severe.all() or not severe.any():
        raise GaussianMRIError(
            f"{int(severe.sum())} of {len(y)} validation cases are severe, so that no threshold of severe can be chosen. "
            "Some have to be, and some not."
        )
    others, found, thresholds = roc_curve(severe, p[:, -1], drop_intermediate=False)
    others, found, thresholds = others[1:], found[1:], thresholds[1:]  # the first is above every probability
    if sensitivity is None:
        n = int(np.argmax(np.round(found - others, 12)))
    else:
        n = int(np.argmax(found >= number(sensitivity, "sensitivity", 0, 1) - 1e-12))
    return float(thresholds[n]), float(found[n]), float(1 - others[n])
