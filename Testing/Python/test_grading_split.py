"""Splits by patient in which every label keeps its share."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.grading.labels import GRADES, LATERAL_TASKS
from GaussianMRILib.grading.split import FRACTIONS, stratified_split


def patients(count: int, seed: int = 0) -> dict[str, Counter[str]]:
    """Labels of patients with one to five graded discs, four tasks each, as rare as in the data; some have none."""
    generator = np.random.default_rng(seed)
    found: dict[str, Counter[str]] = {}
    for n in range(count):
        discs = int(generator.integers(0, 6)) if n % 10 else 0
        tendency = generator.uniform(0.2, 2.5)
        weights = np.array([0.78, 0.16 * tendency, 0.06 * tendency])
        own: Counter[str] = Counter()
        for task in LATERAL_TASKS:
            for grade in generator.choice(GRADES, discs, p=weights / weights.sum()):
                own[f"{task.name} {grade}"] += 1
        found[f"p{n:04d}"] = own
    return found


def shares(labels: dict[str, Counter[str]], splits: dict[str, str]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {name: Counter() for name in FRACTIONS}
    for patient, own in labels.items():
        found[splits[patient]].update(own)
    return found


def test_every_label_keeps_its_share() -> None:
    labels = patients(400)
    splits = stratified_split(labels)
    assert splits.keys() == labels.keys()
    total: Counter[str] = Counter()
    for own in labels.values():
        total.update(own)
    assert len(total) == 12 and min(total.values()) > 30
    by_split = shares(labels, splits)
    random = np.random.default_rng(0).choice(list(FRACTIONS), len(labels), p=list(FRACTIONS.values()))
    by_chance = shares(labels, dict(zip(labels, random.tolist(), strict=True)))

    def worst(found: dict[str, Counter[str]]) -> float:
        return max(
            abs(found[name][label] - FRACTIONS[name] * n) for name in FRACTIONS for label, n in total.items()
        )

    # The rarest labels come out within a patient's worth of cases of what is wanted; by chance they do not.
    rare = [label for label in total if label.endswith("Severe")]
    for label in rare:
        for name, share in FRACTIONS.items():
            assert abs(by_split[name][label] - share * total[label]) <= 4
    assert worst(by_split) < 0.5 * worst(by_chance)
    sizes = Counter(splits.values())
    for name, share in FRACTIONS.items():
        assert abs(sizes[name] - share * 400) <= 20


def test_seeds_and_order() -> None:
    labels = patients(60)
    backwards = dict(reversed(labels.items()))
    assert stratified_split(labels, seed=1) == stratified_split(backwards, seed=1)
    assert stratified_split(labels, seed=1) != stratified_split(labels, seed=2)


def test_the_rarest_label_is_dealt_out_first() -> None:
    """Two of a kind in halves: one each, whatever else they have."""
    labels = {f"p{n}": ["common"] * 3 for n in range(8)} | {"a": ["rare", "common"], "b": ["rare"]}
    for seed in range(10):
        splits = stratified_split(labels, {"train": 0.5, "test": 0.5}, seed)
        assert splits["a"] != splits["b"]
        assert Counter(splits.values()) == {"train": 5, "test": 5}


def test_shares_of_zero_and_patients_without_labels() -> None:
    splits = stratified_split({str(n): [] for n in range(10)}, {"train": 0.6, "validation": 0.0, "test": 0.4})
    assert Counter(splits.values()) == {"train": 6, "test": 4}
    assert stratified_split({"only": ["severe"]}, {"test": 1.0}) == {"only": "test"}


def test_what_cannot_be_split() -> None:
    with pytest.raises(GaussianMRIError, match="add up to 1"):
        stratified_split({"a": []}, {"train": 0.5, "test": 0.4})
    with pytest.raises(GaussianMRIError, match="2 patients cannot be split into train, validation, test"):
        stratified_split({"a": [], "b": []})
