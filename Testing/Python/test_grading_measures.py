"""Measures of grades and their intervals, against hand-made numbers and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import (
    balanced_accuracy_score,
    cohen_kappa_score,
    log_loss,
    recall_score,
    roc_auc_score,
)  # fmt: skip

from GaussianMRILib import GaussianMRIError
from GaussianMRILib.grading.bootstrap import bootstrap, paired_bootstrap
from GaussianMRILib.grading.measures import (
    MEASURES,
    balanced_accuracy,
    chance_auroc,
    checked_probabilities,
    class_aurocs,
    drawn_macro_auroc,
    macro_auroc,
    severe_measures,
    value_of,
    weighted_log_loss,
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


def test_what_guessing_can_reach() -> None:
    labels = np.repeat([0, 1, 2], [30, 20, 10])
    generator = np.random.default_rng(0)
    guessed = np.array([class_aurocs(generator.random((60, 3)), labels) for _ in range(500)], dtype=float)
    assert chance_auroc(labels) == pytest.approx(0.5 + 2 * guessed.std(axis=0).mean(), abs=0.01)
    skilled, true = random_cases(60, 3.0)
    value = macro_auroc(skilled, true)
    assert value is not None and value > chance_auroc(true) > float(np.percentile(guessed.mean(axis=1), 95))
    assert chance_auroc([0, 0]) == chance_auroc([0, 1, 2]) == 1.0  # nothing can be told of so few


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


def weighted_cases(draws: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities with ties that add up to 1, labels, and how often each case was drawn; the last draw is all cases."""
    p, labels = random_cases(50, 1)
    p = np.maximum(p, 0.01)
    drawn = np.random.default_rng(2).multinomial(50, np.full(50, 1 / 50), draws).astype(float)
    drawn[-1] = 1
    return p / p.sum(axis=1, keepdims=True), labels, drawn


def test_measures_are_scikit_learn_s() -> None:
    p, y, counts = weighted_cases()
    predicted, weights = p.argmax(axis=1), np.array([1, 2, 4])[y]
    found = {name: measure(p, y, counts) for name, measure in {**MEASURES, **severe_measures(0.3)}.items()}
    checked = 0
    for n, count in enumerate(counts):
        if len(set(y[count > 0])) < 3:
            continue
        checked += 1
        labels = {"labels": [0, 1, 2], "sample_weight": count}
        expected = {
            "macro_auroc": np.mean([roc_auc_score(y == k, p[:, k], sample_weight=count) for k in range(3)]),
            "kappa_linear": cohen_kappa_score(y, predicted, weights="linear", **labels),
            "kappa_quadratic": cohen_kappa_score(y, predicted, weights="quadratic", **labels),
            "balanced_accuracy": balanced_accuracy_score(y, predicted, sample_weight=count),
            "log_loss": log_loss(y, p, labels=[0, 1, 2], sample_weight=weights * count),
            "severe_sensitivity": recall_score(y == 2, p[:, 2] >= 0.3, sample_weight=count),
            "severe_specificity": recall_score(y != 2, p[:, 2] < 0.3, sample_weight=count),
        }
        assert {name: values[n] for name, values in found.items()} == pytest.approx(expected, abs=1e-12)
    assert checked > 50 and np.std(found["kappa_linear"]) > 0.02
    assert not np.allclose(found["kappa_linear"], found["kappa_quadratic"], atol=0.01)


def test_log_loss_is_the_published_formula() -> None:
    # Weights 1, 2, 4: (1 ln 1/.7 + 2 ln 1/.5 + 4 ln 1/.2 + 4 ln 1/1) / (1 + 2 + 4 + 4).
    p = [[0.7, 0.2, 0.1], [0.3, 0.5, 0.2], [0.3, 0.5, 0.2], [0, 0, 1]]
    by_hand = (np.log(1 / 0.7) + 2 * np.log(2) + 4 * np.log(5)) / 11
    assert value_of(weighted_log_loss, p, [0, 1, 2, 2]) == pytest.approx(by_hand, abs=1e-15)
    impossible = value_of(weighted_log_loss, [[1, 0, 0], [0, 0, 1]], [2, 0])  # scikit-learn's limit, not infinity
    assert impossible == pytest.approx(-np.log(np.finfo(float).eps))
    assert value_of(weighted_log_loss, [[0.5, 0.3, 0.2]], [0]) == pytest.approx(np.log(2))  # one grade is enough


def test_measures_are_undefined_rather_than_wrong() -> None:
    p, y, _ = weighted_cases()
    none_severe, one = np.minimum(y, 1), np.zeros(50, int)
    found = {**MEASURES, **severe_measures(0.3)}
    undefined = {name for name, measure in found.items() if value_of(measure, p, none_severe) is None}
    assert undefined == {"macro_auroc", "balanced_accuracy", "severe_sensitivity"}
    undefined = {name for name, measure in found.items() if value_of(measure, p, one) is None}
    assert undefined == {
        "macro_auroc", "balanced_accuracy", "severe_sensitivity", "kappa_linear", "kappa_quadratic"
    }  # fmt: skip
    assert value_of(severe_measures(0.3)["severe_specificity"], p, np.full(50, 2)) is None
    counts = np.zeros((2, 50))
    counts[0, y == 0] = 1  # a draw of one grade
    counts[1] = 1
    for name in ("macro_auroc", "balanced_accuracy", "kappa_linear"):
        values = MEASURES[name](p, y, counts)
        assert np.isnan(values[0]) and np.isfinite(values[1]), name
    # Few draws hold the only severe patient: those without have no value, and the interval says how many had one.
    y[y == 2], y[0] = 0, 2
    interval = bootstrap(p, y, measure=balanced_accuracy, resamples=400)
    assert 0.55 < interval.resamples / 400 < 0.72 and interval.low is not None


def test_perfect_and_opposite_grades() -> None:
    right, wrong = np.eye(3), np.eye(3)[[2, 1, 0]]
    for name in ("kappa_linear", "kappa_quadratic", "balanced_accuracy"):
        assert value_of(MEASURES[name], right, [0, 1, 2]) == 1
    # Two of three are two grades off. Quadratic: 1 - 8 / (3 (1 + 1 + 1 + 1 + 4 + 4) / 9); linear: 1 - 4 / (3 (4 + 4) / 9).
    assert value_of(MEASURES["kappa_quadratic"], wrong, [0, 1, 2]) == pytest.approx(-1)
    assert value_of(MEASURES["kappa_linear"], wrong, [0, 1, 2]) == pytest.approx(-0.5)


def test_large_tables_are_drawn_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    p, labels = random_cases(80, 1, digits=6)
    whole = bootstrap(p, labels, measure=MEASURES["kappa_linear"], resamples=101)
    monkeypatch.setattr("GaussianMRILib.grading.bootstrap._CELLS", 80 * 10)
    assert bootstrap(p, labels, measure=MEASURES["kappa_linear"], resamples=101) == whole


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
    with pytest.raises(GaussianMRIError, match="Case 2 of 2 does not say whose it is"):
        bootstrap([[0.5, 0.5], [0.1, 0.9]], [0, 1], ["a", ""])
    for row in ([0.5, 0.3, 0.3], [1.2, -0.1, -0.1], [0.2, 0.2, 0.2]):
        with pytest.raises(GaussianMRIError, match=r"Row 2 .* does not add up to 1: 1 of 2 rows"):
            checked_probabilities([[0.2, 0.3, 0.5], row], [0, 1])
    assert checked_probabilities([[0.333, 0.333, 0.333]], [0])[0].shape == (1, 3)
