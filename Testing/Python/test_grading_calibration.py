"""Reliability, temperatures and thresholds, and what a checkpoint says of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from grading_cases import SHAPE, TINY, card, spots
from PIL import Image

from GaussianMRILib import GaussianMRIError
from GaussianMRILib.grading.calibration import (
    Calibration,
    calibration_error,
    choose_threshold,
    fit_temperature,
    reliability,
    reliability_plot,
    scaled,
)  # fmt: skip
from GaussianMRILib.grading.labels import GRADES, NOT_CALIBRATED
from GaussianMRILib.grading.model_card import load_grader, save_calibrated, save_grader
from GaussianMRILib.grading.network import GradingNetwork
from GaussianMRILib.grading.predict import grade
from GaussianMRILib.tensor_files import read_state

MADE = Calibration(
    2.0, 0.4, "sensitivity of at least 0.9", 2, dict.fromkeys(GRADES, 5), 12, ("A",), ("L5/S1",), "spots", "ab",
    0.9, 0.8, 0.02, 0.1,
)  # fmt: skip


def certain_cases(count: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels that are as probable as p says, and p made surer than that by a temperature."""
    generator = np.random.default_rng(seed)
    p = generator.dirichlet([1, 1, 1], count)
    labels = (p.cumsum(axis=1) < generator.random((count, 1))).sum(axis=1)
    return scaled(p, 1 / temperature), labels


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


def test_the_temperature_is_found() -> None:
    p, labels = certain_cases(20_000, 2.5)
    found = fit_temperature(p, labels)
    assert found == pytest.approx(2.5, rel=0.03)
    assert calibration_error(reliability(p, labels)) > 0.1
    assert calibration_error(reliability(scaled(p, found), labels)) < 0.015
    # It is the softmax of logits divided by it, and leaves the most probable grade as it is.
    logits = np.random.default_rng(1).normal(size=(5, 3)) * 3
    softmax = torch.softmax(torch.from_numpy(logits), dim=1).numpy()
    assert scaled(softmax, 2.5) == pytest.approx(torch.softmax(torch.from_numpy(logits / 2.5), dim=1).numpy(), abs=1e-12)
    assert (scaled(p, found).argmax(axis=1) == p.argmax(axis=1)).all()
    assert scaled([1, 0, 0], 3.0) == pytest.approx([1, 0, 0])


def test_temperatures_that_cannot_be_found() -> None:
    sure = np.eye(3)[[0, 1, 2, 1]] * 0.7 + 0.1
    with pytest.raises(GaussianMRIError, match="4 validation cases do not determine a temperature: all, or nearly all"):
        fit_temperature(sure, [0, 1, 2, 1])
    with pytest.raises(GaussianMRIError, match="no better than by chance"):
        fit_temperature(sure, [1, 2, 0, 0])
    with pytest.raises(GaussianMRIError, match="have one grade"):
        fit_temperature(sure, [1, 1, 1, 1])
    with pytest.raises(GaussianMRIError, match=r"Row 1 .* does not add up to 1"):
        fit_temperature(sure * 2, [0, 1, 2, 1])


def test_the_threshold_is_chosen() -> None:
    severe = np.array([0.9, 0.6, 0.3, 0.1, 0.7, 0.2, 0.15, 0.05, 0.02])
    labels = [2, 2, 2, 2, 0, 0, 1, 0, 1]
    p = np.stack([1 - severe, 0 * severe, severe], axis=1)
    # At 0.3: 3 of 4 severe, 4 of 5 others below. At 0.1: all severe, 2 of 5 below.
    assert choose_threshold(p, labels) == (0.3, 0.75, pytest.approx(0.8))
    assert choose_threshold(p, labels, sensitivity=0.9) == (0.1, 1.0, pytest.approx(0.4))
    assert choose_threshold(p, labels, sensitivity=0.5) == (0.6, 0.5, pytest.approx(0.8))
    assert choose_threshold(p, labels, sensitivity=0.25) == (0.9, 0.25, 1.0)
    for wrong in ([0] * 9, [2] * 9):
        with pytest.raises(GaussianMRIError, match="validation cases are severe, so that no threshold"):
            choose_threshold(p, wrong)


def test_grades_of_a_calibrated_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = GradingNetwork(TINY)
    torch.nn.init.normal_(network.head.weight, std=0.5)
    plain = save_grader(tmp_path / "plain.pt", network, card(shape=SHAPE))
    made = save_calibrated(plain, tmp_path / "calibrated.pt", MADE)
    grader, before = load_grader(made), load_grader(plain)
    assert grader.card == replace(before.card, calibration=MADE) and grader.sha256 != before.sha256
    versions = [read_state(path, "GaussianMRI grader", 2, "", "", "")[0]["version"] for path in (plain, made)]
    assert versions == [1, 2]  # what has no calibration can be read by older versions
    seen = spots(1, 0, np.random.default_rng(0))
    (first,), (second,) = (grade(g, (seen.images, seen.mask), views=2) for g in (before, grader))
    assert second.probabilities == pytest.approx(scaled(first.probabilities, 2.0), abs=1e-12)
    assert second.probability < first.probability and second.label == first.label
    assert first.to_dict()["calibrated"] is False and NOT_CALIBRATED in first.notes
    words = "temperature 2, fitted on 15 validation cases of 12 patients (spots)"
    assert second.to_dict()["calibrated"] is True and any(words in note for note in second.notes)
    assert NOT_CALIBRATED not in second.notes
    with pytest.raises(GaussianMRIError, match="calibrated with 2 views, not 3"):
        grade(grader, (seen.images, seen.mask), views=3)
    for changes in ({"temperature": float("nan")}, {"threshold": 1.5}, {"views": 0}, {"rule": 3}):
        with pytest.raises(GaussianMRIError):
            replace(MADE, **changes)


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_plot(suffix: str, tmp_path: Path) -> None:
    p, labels = certain_cases(300, 2.0)
    tables = {"before": reliability(p, labels), "after": reliability(scaled(p, 2.0), labels)}
    files = [tmp_path / f"{name}.{suffix}" for name in "ab"]
    for file in files:
        reliability_plot(file, "Reliability", tables)
    assert files[0].read_bytes() == files[1].read_bytes() and files[0].stat().st_size > 5000
    reliability_plot(files[1], "Reliability", {"before": tables["before"]})
    assert files[0].read_bytes() != files[1].read_bytes()
    if suffix == "png":
        assert Image.open(files[0]).size == (560, 580)
