"""Networks judged on their own set and on other cohorts, calibrated on validation; the networks' answers are invented."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from grading_cases import LEFT, SHAPE, TINY, card, make_set

from GaussianMRILib import GaussianMRIError
from GaussianMRILib.cli import main
from GaussianMRILib.grading import evaluation
from GaussianMRILib.grading.calibration import calibration_error, reliability
from GaussianMRILib.grading.crops import Case, CropSet, labels_of
from GaussianMRILib.grading.labels import GRADES
from GaussianMRILib.grading.measures import MEASURES, value_of
from GaussianMRILib.grading.model_card import load_grader, save_grader
from GaussianMRILib.grading.network import GradingNetwork
from GaussianMRILib.grading.people import add_people


def answers(cases: Sequence[Case], seed: int = 0) -> np.ndarray:
    """Probabilities with some skill and too much confidence, the same for a case wherever it is asked for."""
    rows = []
    for case, label in zip(cases, labels_of(cases, LEFT), strict=True):
        generator = np.random.default_rng([seed, *case.case_id.encode()])
        logits = 3 * (generator.normal(size=3) + 1.2 * np.eye(3)[label])
        rows.append(np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum())
    return np.array(rows)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint whose answers are invented."""

    def answer(_grader: object, _crops: object, cases: Sequence[Case], _views: int, progress: Any = None) -> np.ndarray:
        if progress is not None and progress(1.0) is False:
            raise GaussianMRIError("Grading was stopped.")
        return answers(cases)

    monkeypatch.setattr(evaluation, "grade_cases", answer)
    torch.manual_seed(0)
    return save_grader(tmp_path / "left.pt", GradingNetwork(TINY), card(shape=SHAPE))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["grade", *map(str, arguments), "-q"], catch_exceptions=False)


def renamed(crops: CropSet, change: Any) -> CropSet:
    """The set with other patients in its table."""
    path = crops.folder / "cases.csv"
    rows = list(csv.reader(path.read_text().splitlines()))
    for row in rows[1:]:
        row[2] = change(row[2])
    path.write_text("".join(",".join(row) + "\n" for row in rows))
    return CropSet.read(crops.folder)


def test_what_is_chosen_on_validation_is_judged_elsewhere(model: Path, tmp_path: Path) -> None:
    crops = make_set(tmp_path / "set", {"train": 3, "validation": 60, "test": 45})
    made = tmp_path / "calibrated.pt"
    done = run("calibrate", crops.folder, model, "-o", made, "--views", 2, "--sensitivity", 0.9, "--device", "cpu")
    assert done.exit_code == 0, done.output
    found = load_grader(made).card.calibration
    assert found is not None and dict(found.cases) == dict.fromkeys(GRADES, 20) and found.patients == 60
    held, tested = crops.chosen("validation"), crops.chosen("test")
    p, q = found.apply(answers(held), 2), found.apply(answers(tested), 2)
    labels, truth = np.array(labels_of(held, LEFT)), np.array(labels_of(tested, LEFT))
    assert found.temperature > 1.3 and found.error == pytest.approx(calibration_error(reliability(p, labels)))
    assert found.error < found.raw_error
    right = p[labels == 2, 2] >= found.threshold
    assert right.mean() == found.sensitivity >= 0.9 and found.threshold in p[:, 2]
    assert f"{found.temperature:.3f}" in done.output and "sensitivity of at least 0.9" in done.output

    scores, table, plot = (tmp_path / f"scores.{suffix}" for suffix in ("json", "csv", "png"))
    common = ("--views", 2, "--resamples", 300, "--device", "cpu")
    done = run(
        "evaluate", crops.folder, made, model, *common, "--json", scores, "--csv", table, "--reliability-plot", plot
    )
    assert done.exit_code == 0, done.output
    content = json.loads(scores.read_text())
    first, second = content["results"]
    for name, measure in MEASURES.items():
        assert first[name]["value"] == pytest.approx(value_of(measure, q, truth), abs=1e-12), name
        assert first[name]["low"] < first[name]["value"] < first[name]["high"], name
    assert first["severe_sensitivity"]["value"] == pytest.approx((q[truth == 2, 2] >= found.threshold).mean())
    assert first["severe_specificity"]["value"] == pytest.approx((q[truth != 2, 2] < found.threshold).mean())
    assert first["log_loss_uncalibrated"]["value"] == second["log_loss"]["value"] > first["log_loss"]["value"]
    assert first["calibration_error_uncalibrated"] == second["calibration_error"] > first["calibration_error"]
    assert first["calibration"]["sha256"] == found.sha256 and second["calibration"] is None
    assert "severe_sensitivity" not in second and first["patients"] == 45
    (difference,) = content["differences"]
    gap = first["log_loss"]["value"] - second["log_loss"]["value"]
    assert difference["log_loss"]["value"] == pytest.approx(gap) and difference["log_loss"]["high"] < 0
    assert difference["kappa_linear"]["value"] == difference["kappa_linear"]["low"] == 0  # the same grades
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["calibrated"] for row in rows] == ["yes"] * 45 + ["no"] * 45
    assert float(rows[3]["Severe"]) == pytest.approx(q[3, 2], abs=1e-6) and plot.stat().st_size > 5000
    assert "left.pt: Probabilities are not calibrated." in done.output and "other validation cases" not in done.output
    assert re.search(r"Cohen's kappa, quadratic weights +0\.\d+ \(0\.\d+ to 0\.\d+\) +300 of 300", done.output)
    assert run("evaluate", crops.folder, made, *common, "--seed", 1, "--json", scores).exit_code == 0
    again = json.loads(scores.read_text())["results"][0]["kappa_linear"]
    assert again["value"] == first["kappa_linear"]["value"] and again["low"] != first["kappa_linear"]["low"]

    flattered = run("evaluate", crops.folder, made, *common, "--split", "validation")
    assert "which flatters it here" in flattered.output
    wrong = run("evaluate", crops.folder, made, "--views", 3, "--device", "cpu")
    assert wrong.exit_code == 1 and "calibrated with 2 views, not 3" in wrong.output
    other = make_set(tmp_path / "other", {"validation": 30, "test": 9})
    assert "has other validation cases" in run("evaluate", other.folder, made, *common).output


def test_another_cohort(model: Path, tmp_path: Path) -> None:
    crops = make_set(tmp_path / "set", {"train": 3, "test": 30})
    other = renamed(make_set(tmp_path / "other", {"train": 12, "test": 12}, seed=1), lambda name: f"other {name}")
    seen: list[float] = []
    found = evaluation.evaluate(
        {"m": load_grader(model)}, crops, external=[other], resamples=100, progress=lambda part, _what: seen.append(part)
    )
    own, far = found.results
    assert (own.cohort, len(own.cases)) == ("test", 30)
    assert (far.cohort, len(far.cases), far.patients) == (str(other.folder), 24, 24)  # whatever their split
    expected = value_of(MEASURES["kappa_quadratic"], answers(other.cases), labels_of(other.cases, LEFT))
    assert far.measures["kappa_quadratic"].value == pytest.approx(expected)
    assert seen == pytest.approx([30 / 54, 30 / 54, 1, 1]) and not found.differences
    done = run("evaluate", crops.folder, model, "--external", other.folder, "--resamples", 20, "--device", "cpu")
    assert done.exit_code == 0 and f"{other.folder}, A: 24 cases of 24 patients" in done.output

    same = run("evaluate", crops.folder, model, "--external", crops.folder, "--device", "cpu")
    assert same.exit_code == 1 and "is no other cohort: test0, test1, test10 and 30 more" in same.output
    unknown = f"Whether the same people are in {crops.folder} and {other.folder} could not be checked"
    assert found.notes[0].startswith(unknown) and unknown in done.output
    add_people(crops.folder, {who: f"ID of {who}" for who in crops.patients})
    add_people(other.folder, {who: f"ID of {who}" for who in other.patients})
    common = ("--external", other.folder, "--resamples", 20, "--device", "cpu")
    known = run("evaluate", crops.folder, model, *common)
    assert known.exit_code == 0 and "could not be checked" not in known.output
    add_people(other.folder, {"other test3": "ID of test7"})
    again = run("evaluate", crops.folder, model, *common)
    assert again.exit_code == 1 and "is no other cohort: other test3 of its patients" in again.output
    empty = make_set(tmp_path / "empty", {"test": 3}, sides=("right",))
    renamed(empty, lambda name: f"far {name}")
    none = run("evaluate", crops.folder, model, "--external", empty.folder, "--device", "cpu")
    assert none.exit_code == 1 and "no case that left.pt can grade" in none.output


def test_cases_without_a_patient_and_a_stop(model: Path, tmp_path: Path) -> None:
    crops = renamed(make_set(tmp_path / "set", {"test": 6}), lambda name: "" if name == "test4" else name)
    done = run("evaluate", crops.folder, model, "--device", "cpu")
    assert done.exit_code == 1 and "cases.csv does not say whose case test4-A is" in done.output
    whole = make_set(tmp_path / "whole", {"test": 6})
    with pytest.raises(GaussianMRIError, match="stopped"):
        evaluation.evaluate({"m": load_grader(model)}, whole, progress=lambda _part, _what: False)


def test_patients_are_drawn_with_all_their_cases(model: Path, tmp_path: Path) -> None:
    crops = make_set(tmp_path / "set", {"test": 60})
    grader = {"m": load_grader(model)}
    apart = evaluation.evaluate(grader, crops, resamples=500).results[0]
    pairs = renamed(crops, lambda name: f"p{int(name.removeprefix('test')) % 6}")  # ten discs each
    together = evaluation.evaluate(grader, pairs, resamples=500).results[0]
    one, other = (result.measures["log_loss"] for result in (apart, together))
    assert one.value == other.value and together.patients == 6
    assert (other.low, other.high) != (one.low, one.high)


def test_calibrations_that_cannot_be(model: Path, tmp_path: Path) -> None:
    made = tmp_path / "calibrated.pt"
    nothing = make_set(tmp_path / "nothing", {"train": 3, "test": 30})
    done = run("calibrate", nothing.folder, model, "-o", made, "--device", "cpu")
    assert done.exit_code == 1 and "no validation case" in done.output and "nothing is chosen on test cases" in done.output
    mild = make_set(tmp_path / "mild", {"validation": 1})
    done = run("calibrate", mild.folder, model, "-o", made, "--device", "cpu")
    assert done.exit_code == 1 and "left.pt cannot be calibrated on" in done.output and "have one grade" in done.output
    done = run("calibrate", mild.folder, model, "-o", model, "--device", "cpu")
    assert done.exit_code == 1 and "is an input" in done.output
    assert not made.exists()
