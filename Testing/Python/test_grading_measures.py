"""AUROC, its intervals and calibration, against hand-made numbers and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from GaussianMRILib import GaussianMRIError
from GaussianMRILib.grading.bootstrap import bootstrap, paired_bootstrap
from GaussianMRILib.grading.measures import (
    class_aurocs,
    drawn_macro_auroc,
    macro_auroc,
)  # fmt: skip


def random_cases(count: int, skill: float, seed: int = 0, digits: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities with ties, and labels."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(3, count, p=[0.6, 0.25, 0.15])
    scores = generator.normal(size=(count, 3)) + skill * np.eye(3)[labels]
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return np.round(p, digits), labels


def test_by_hand() -> None:
    p = np.array([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    labels = [0, 1, 1, 2]
    # Class 0: 0.7 beats 0.5, 0.5 and 0.1. Class 1: 0.4 and 0.3 beat 0.2 and 0.1. Class 2: 0.8 beats all.
    assert class_aurocs(p, labels) == (1.0, 1.0, 1.0)
    # Class 0 with cases 1 and 2: pairs with 0.7: both lose, with 0.1: both win. Class 1: 0.2 beats 0.1 only.
    assert class_aurocs(p, [1, 0, 0, 2]) == (0.5, pytest.approx(1 / 3), 1.0)
    assert macro_auroc(p, [1, 0, 0, 2]) == pytest.approx((0.5 + 1 / 3 + 1) / 3)
    # A tie counts half.
    assert class_aurocs([[0.5, 0.5], [0.5, 0.5]], [0, 1]) == (0.5, 0.5)


def test_an_absent_class_is_undefined() -> None:
    p, labels = random_cases(30, 1)
    values = class_aurocs(p, np.minimum(labels, 1))
    assert values[2] is None and values[0] is not None and values[1] is not None
    assert macro_auroc(p, np.minimum(labels, 1)) is None
    assert class_aurocs(p, np.zeros(30, int)) == (None, None, None)
    interval = bootstrap(p, np.minimum(labels, 1), resamples=50)
    assert interval.value is None and interval.low is None and interval.text == "undefined"


def test_the_bootstrap_s_aurocs_are_scikit_learn_s() -> None:
    p, labels = random_cases(40, 0.5)
    draws = np.random.default_rng(1).integers(0, 40, (200, 40))
    draws[0], draws[1] = 0, np.flatnonzero(labels != 2)[np.arange(40) % 3]  # one class only; a class absent
    counts = np.stack([np.bincount(draw, minlength=40) for draw in draws])
    mine = drawn_macro_auroc(p, labels, counts.astype(float))
    for n, draw in enumerate(draws):
        if len(set(labels[draw])) == 3:
            parts = [roc_auc_score(labels[draw] == k, p[draw, k]) for k in range(3)]
            assert mine[n] == pytest.approx(np.mean(parts), abs=1e-12)
        else:
            assert np.isnan(mine[n])
    assert np.isnan(mine[:2]).all() and np.isfinite(mine).sum() > 190


def test_intervals_have_the_right_width() -> None:
    """The interval must be as wide as the figure varies between sets of cases."""
    values = [macro_auroc(*random_cases(200, 1, seed, 6)) for seed in range(200)]
    widths = []
    for seed in range(5):
        interval = bootstrap(*random_cases(200, 1, seed, 6), resamples=400)
        assert interval.low < interval.value < interval.high and interval.resamples == 400
        widths.append(interval.high - interval.low)
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.std(values), rel=0.15)
    narrow = bootstrap(*random_cases(200, 1, 0, 6), resamples=400, level=0.5)
    assert narrow.high - narrow.low < 0.45 * widths[0]


def test_methods_are_compared_on_the_same_draws() -> None:
    p, labels = random_cases(200, 1, digits=6)
    better = p + 0.05 * np.eye(3)[labels]
    result = paired_bootstrap({"a": p, "b": better, "same": p}, labels, resamples=300)
    difference = result.differences["a", "b"]
    assert difference.value == pytest.approx(macro_auroc(p, labels) - macro_auroc(better, labels))
    assert difference.high < 0  # though the two intervals overlap
    assert result.methods["a"].high > result.methods["b"].low
    same = result.differences["a", "same"]
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert set(result.differences) == {("a", "b"), ("a", "same"), ("b", "same")}
    assert result.methods["a"] == bootstrap(p, labels, resamples=300)
    assert result.methods["a"] != bootstrap(p, labels, resamples=300, seed=1)


def test_all_cases_of_a_patient_are_drawn_together() -> None:
    p, labels = random_cases(100, 1, digits=6)
    once = bootstrap(p, labels, resamples=200)
    twice, patients = np.concatenate([p, p]), [f"{n:03}" for n in range(100)] * 2
    assert bootstrap(twice, np.tile(labels, 2), patients, resamples=200) == once
    blind = bootstrap(twice, np.tile(labels, 2), resamples=200)  # as if there were 200 patients
    assert blind.high - blind.low < 0.85 * (once.high - once.low)


def test_few_cases_have_no_interval() -> None:
    p, labels = random_cases(60, 1)
    labels[labels == 2] = 0
    labels[0] = 2  # drawn in 63 % of the resamples
    assert 0.5 < bootstrap(p, labels, resamples=500).resamples / 500 < 0.75
    few = bootstrap(p[:3], [0, 1, 2], resamples=500)
    assert few.value is not None and few.low is None and "no interval" in few.text


def test_calibration() -> None:
    p = np.array([[0.9, 0.1, 0], [0.95, 0, 0.05], [0.4, 0.3, 0.3], [0.1, 0.85, 0.05]])
    table = reliability(p, [0, 1, 0, 1], bins=5)
    assert [b.count for b in table] == [0, 1, 0, 0, 3]
    assert (table[1].confidence, table[1].accuracy) == (0.4, 1.0) and table[0].confidence is None
    assert table[4].confidence == pytest.approx(0.9) and table[4].accuracy == pytest.approx(2 / 3)
    assert calibration_error(table) == pytest.approx((0.6 * 1 + (0.9 - 2 / 3) * 3) / 4)
    generator = np.random.default_rng(0)
    q = generator.dirichlet([1, 1, 1], 20_000)
    labels = (q.cumsum(axis=1) < generator.random((len(q), 1))).sum(axis=1)  # as probable as it says
    assert calibration_error(reliability(q, labels)) < 0.01
    sure = q**4 / (q**4).sum(axis=1, keepdims=True)
    assert calibration_error(reliability(sure, labels)) > 0.15
    assert reliability([[1.0, 0.0]], [0])[-1].count == 1


def test_misuse() -> None:
    for p, labels in (
        ([[0.5, np.nan]], [0]),
        ([[0.5, 0.5]], [0, 1]),
        ([0.5], [0]),
        ([[0.5, 0.5]], [2]),
        (np.zeros((0, 3)), []),
    ):
        with pytest.raises(GaussianMRIError, match=r"needed|must be"):
            class_aurocs(p, labels)
    with pytest.raises(GaussianMRIError, match="1 patients do not belong to 2"):
        bootstrap([[0.5, 0.5], [0.1, 0.9]], [0, 1], ["a"])
