"""The experiment: sizes and splits, image scores, what a report says of known probabilities, and one run of everything."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from graded_scenes import TINY, coarse

from GaussianMRILib import GaussianMRIError
from GaussianMRILib.cli import main
from GaussianMRILib.grading.bootstrap import Interval
from GaussianMRILib.grading.crops import Case, CropSet
from GaussianMRILib.grading.labels import AXIAL_TYPES, GRADES, LATERAL_TASKS, STENOSES
from GaussianMRILib.metrics import psnr
from Testing.Experiment.document import Document
from Testing.Experiment.graded import GradedPhantom
from Testing.Experiment.options import ExperimentOptions
from Testing.Experiment.plots import auroc_figure, example_figure
from Testing.Experiment.report import Predictions, _verdict, compared, joined, read_predictions
from Testing.Experiment.run import TRAININGS, ExperimentProgress, run_experiment
from Testing.Experiment.steps import PREDICTIONS, image_scores

__all__ = ["coarse"]  # a fixture
pytest.importorskip("monai", reason="grading needs MONAI")
pytest.importorskip("sklearn", reason="grading needs scikit-learn")


# ---- sizes -------------------------------------------------------------------------------------------------------


def test_studies_fall_into_splits_of_the_wanted_sizes() -> None:
    options = ExperimentOptions(train=10, validation=5, test=4, paired=0.3)
    splits = [options.split(n) for n in range(options.studies)]
    assert [splits.count(name) for name in ("train", "validation", "test")] == [10, 5, 4]
    unpaired = options.unpaired("train") + options.unpaired("validation")
    assert (options.unpaired("train"), options.unpaired("validation")) == (7, 3)
    assert splits[unpaired:].count("train") == 3 and splits[unpaired:].count("validation") == 2
    assert splits[-4:] == ["test"] * 4
    with pytest.raises(IndexError):
        options.split(options.studies)
    with pytest.raises(GaussianMRIError, match="needs patients"):
        ExperimentOptions(test=0)


def test_the_reduced_experiment_trains_until_it_has_converged() -> None:
    options = ExperimentOptions.reduced()
    assert options.region.width == 64.0 and ExperimentOptions.reduced(test=3).test == 3
    assert options.training.patience is not None and options.training.patience > options.training.window
    assert ExperimentOptions().training.patience is not None
    # 200 cases of A and 50 of the other type, each and its mirror image, in batches of 16.
    assert (options.train, options.unpaired("train"), options.epoch_steps) == (200, 150, 32)
    assert replace(options, training=replace(options.training, mirror=False, batch=10)).epoch_steps == 25


# ---- scores ------------------------------------------------------------------------------------------------------


def test_image_scores_are_weighted_around_the_back_of_the_disc() -> None:
    generator = np.random.default_rng(3)
    truth = generator.uniform(0.2, 0.8, (9, 112, 224))
    mask = np.arange(9) % 2 == 0
    centre, border = truth.copy(), truth.copy()
    centre[:, 46:66, 102:122] += 0.1
    border[:, :20, :20] += 0.1
    near, far = (image_scores(image, mask, truth, mask) for image in (centre, border))
    # The same error in as many pixels: 20 log10(1/0.1) dB less what the weights make of it.
    assert near["psnr"] is not None and far["psnr"] is not None
    assert near["psnr"] < psnr(centre[0], truth[0], data_range=1.0) - 5 and far["psnr"] > near["psnr"] + 20
    # Slices that only one of them has do not count, nor does what lies outside the scan.
    spoilt = centre.copy()
    spoilt[1], spoilt[:, :, 200:] = 0.99, 0.0
    hidden = truth.copy()
    hidden[:, :, 200:] = 0.0
    again = image_scores(spoilt, mask, hidden, np.ones(9, bool))
    assert again["psnr"] == pytest.approx(near["psnr"], abs=0.2)
    with pytest.raises(GaussianMRIError, match="no slice in common"):
        image_scores(truth, mask, truth, ~mask)


# ---- the report ----------------------------------------------------------------------------------------------------


def _predictions(sharpness: dict[str, float], studies: int = 250, seed: int = 0) -> Predictions:
    """Probabilities that are right the more, the sharper."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, studies)
    found = {}
    for kind in AXIAL_TYPES:
        logits = sharpness[kind] * np.eye(3)[labels] + generator.normal(size=(studies, 3))
        found[kind] = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Predictions([str(n) for n in range(studies)], labels, found)


def test_differences_are_first_less_second_with_their_intervals() -> None:
    sides = [_predictions({"A": 3.0, "R-GS": 1.5, "R-VI": 1.5, "N": 0.2}, seed=seed) for seed in (0, 1)]
    both = joined(sides)
    assert len(both.labels) == len(both.studies) == 500
    found = compared(both, 300, 0)
    better = found.differences["R-GS", "N"]
    assert better.low is not None and better.value is not None and better.low > 0.1
    assert better.value == pytest.approx(found.methods["R-GS"].value - found.methods["N"].value)
    same = found.differences["R-GS", "R-VI"]
    assert same.low is not None and same.high is not None and same.low < 0 < same.high
    # Both sides belong to one patient: one patient twice is less than two patients.
    apart = replace(both, studies=[str(n) for n in range(500)])
    twice = joined([sides[0], sides[0]])
    width = []
    for cases in (twice, replace(twice, studies=apart.studies)):
        interval = compared(cases, 300, 0).methods["N"]
        width.append((interval.high or 0) - (interval.low or 0))
    assert width[0] > 1.2 * width[1]


@pytest.mark.parametrize(
    ("higher", "clear", "reverse", "words"),
    [
        (8, 6, 0, "is graded better than"),
        (1, 0, 4, "WORSE"),
        (5, 0, 0, "not clearly"),
        (4, 2, 2, "not clearly"),
    ],
)
def test_whatever_comes_out_is_said(higher: int, clear: int, reverse: int, words: str) -> None:
    assert words in _verdict("R-GS", "R-VI", higher, clear, reverse, 8)


def test_a_plot_shows_values_and_intervals() -> None:
    nothing = Interval(None, None, None, 0.95, 0)
    rows = {
        "A": {"N": nothing, "R-GS": Interval(0.61, 0.43, 0.7, 0.95, 9)},
        "A+N": {"N": Interval(0.9, None, None, 0.95, 0), "R-GS": Interval(0.8, 0.75, 0.85, 0.95, 9)},
    }
    figure = auroc_figure("t", rows, ("N", "R-GS"))
    (axes,), (legend,) = figure.axes, figure.legends
    straight, gaussians = axes.lines
    np.testing.assert_allclose(straight.get_xydata(), [[0.875, 0.9]])
    np.testing.assert_allclose(gaussians.get_xydata(), [[0.125, 0.61], [1.125, 0.8]])
    bars = [bar for each in axes.collections for bar in each.get_segments()]
    np.testing.assert_allclose(bars, [[[0.125, 0.43], [0.125, 0.7]], [[1.125, 0.75], [1.125, 0.85]]])
    assert axes.get_ylim() == pytest.approx((0.4, 1)) and straight.get_color() != gaussians.get_color()
    assert [text.get_text() for text in axes.get_xticklabels()] == ["trained on A", "trained on A+N"]
    assert [text.get_text() for text in legend.get_texts()] == ["N", "R-GS"]


def test_examples_show_the_middle_slice_and_its_grades() -> None:
    grades = dict.fromkeys((task.name for task in LATERAL_TASKS), GRADES[0]) | {LATERAL_TASKS[0].name: "Severe"}
    cases = [
        Case(f"{study}{kind}", study, study, "L5/S1", kind, "test", found, synthetic=True)
        for study, found in (("1", grades), ("2", {task.name: GRADES[0] for task in LATERAL_TASKS}))
        for kind in AXIAL_TYPES
    ]

    def images(case: Case) -> tuple[np.ndarray, np.ndarray]:  # slices 1 to 3 exist
        shown = (cases.index(case) + np.arange(5)[:, None, None] * np.ones((4, 8))) / 16
        return shown, np.array([False, True, True, True, False])

    crops: Any = SimpleNamespace(cases=cases, images=images)
    figure = example_figure(crops, ["1", "2"])
    kinds = ["A", "R-VI", "R-GS", "N"]
    numbers = [[c.study_id + c.input_type for c in cases].index(s + k) for s in "12" for k in kinds]
    assert [float(axes.images[0].get_array()[0, 0]) for axes in figure.axes] == [(n + 2) / 16 for n in numbers]
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [
        f"{kind}, SYNTHETIC" + (f":\n{text}" if kind == "A" else "")
        for text in ("left subarticular severe", "normal/mild")
        for kind in kinds
    ]


def test_the_report_is_the_same_in_markdown_and_html() -> None:
    document = Document()
    document.heading("Front & <title>")
    document.text("A < B")
    document.table(["", "a", "b"], [["x & y", "1", "2"], ["z", "3", "4"]])
    document.heading("Second")
    document.picture("p.png", "a picture")
    assert document.markdown() == (
        "# Front & <title>\n\nA < B\n\n|  | a | b |\n| --- | ---: | ---: |\n| x & y | 1 | 2 |\n| z | 3 | 4 |\n\n"
        "## Second\n\n![a picture](p.png)\n"
    )
    page = document.html()
    assert "<h1>Front &amp; &lt;title&gt;</h1>" in page and "<h2>Second</h2>" in page and "<p>A &lt; B</p>" in page
    assert "<tr><td>x &amp; y</td><td>1</td><td>2</td></tr>" in page and "<th>b</th>" in page
    assert '<img src="p.png" alt="a picture">' in page


# ---- everything ----------------------------------------------------------------------------------------------------

def test_the_whole_experiment_runs_stops_and_goes_on(coarse: None, tmp_path: Path) -> None:
    states: list[ExperimentProgress] = []

    def stop() -> bool:  # once three networks are there
        return sum(s.step == "networks" and s.done > 0 for s in states) >= 3

    assert run_experiment(tmp_path, TINY, workers=1, progress=states.append, cancelled=stop) is None
    assert [s.step for s in states if s.done == s.total] == ["cohort", "inputs", "metrics"]
    assert states[-1].total == 20 and states[-1].remaining is not None and states[-1].remaining >= 0
    first = tmp_path / "networks" / f"A-{STENOSES[0].name}" / PREDICTIONS
    before = first.read_bytes(), first.stat().st_mtime_ns
    report = run_experiment(tmp_path, TINY, workers=1)
    assert report == tmp_path / "report.md"
    assert (first.read_bytes(), first.stat().st_mtime_ns) == before

    # Inputs: unpaired studies have A alone; R lie on the planes of A; grades are the reported ones.
    crops = CropSet.read(tmp_path / "inputs")
    counts = {(s, k): len(crops.chosen(s, [k])) for s in ("train", "validation", "test") for k in AXIAL_TYPES}
    paired = {"train": 3, "validation": 2, "test": 5}
    whole = {"train": 6, "validation": 3, "test": 5}
    assert counts == {(s, k): (whole if k == "A" else paired)[s] for s in whole for k in AXIAL_TYPES}
    by_type = {case.input_type: case for case in crops.chosen("test") if case.study_id == "100300009"}
    planes = {}
    for kind, case in by_type.items():
        phantom = GradedPhantom(int(case.study_id))
        assert (
            case.grades == {task.name: GRADES[phantom.stenoses[task].label] for task in STENOSES}
            and case.synthetic
        )
        with np.load(tmp_path / "inputs" / case.file) as content:
            planes[kind] = content["planes"][content["mask"]]
    assert (
        len(planes["A"]) == 5
        and np.allclose(planes["R-GS"], planes["A"])
        and np.allclose(planes["R-VI"], planes["A"])
    )
    assert np.degrees(np.arccos(planes["N"][0][:3, 2] @ planes["A"][0][:3, 2])) > 10
    truth, mask = crops.images(by_type["A"])
    for kind in ("R-VI", "R-GS"):  # they show the same place
        images = crops.images(by_type[kind])[0]
        assert np.corrcoef(images[mask].ravel().astype(float), truth[mask].ravel().astype(float))[0, 1] > 0.8

    # Figures: one test case per study, type and network; the report has each of them and says what it is.
    found = read_predictions(first)
    assert len(found.studies) == 5 and np.allclose(found.probabilities["N"].sum(axis=1), 1, atol=1e-5)
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results["auroc"]) == {f"{name} {task.name}" for name in TRAININGS for task in STENOSES}
    assert set(results["auroc_both_sides"]) == {f"{name} {task.condition}" for name in TRAININGS for task in STENOSES}
    # Nine cases of A and the other type with their mirror images in batches of 6; six of A alone take as many.
    assert results["options"]["training"]["epoch_steps"] == 3
    assert set(results["training"]) == set(results["auroc"])
    assert list(results["training"].values()) == [{"steps": 3, "limit": 3, "converged": False}] * 20
    values = compared(found, 50, 3).methods["N"].value
    assert results["auroc"][f"A {STENOSES[0].name}"]["auroc"]["N"]["value"] == values
    quality = [json.loads(p.read_text())["R-GS"]["psnr"] for p in (tmp_path / "metrics").glob("1003*.json")]
    assert len(quality) == 5 and results["images"]["R-GS"]["psnr"]["value"] == pytest.approx(np.mean(quality))
    text, page = report.read_text(), (tmp_path / "report.html").read_text()
    assert (
        text.startswith("# SYNTHETIC")
        and f"{np.mean(quality):.2f} (" in text
        and f"{np.mean(quality):.2f} (" in page
    )
    assert "6 training, 3 validation and 5 test patients" in text and "Not for diagnosis" in text
    assert "| spinal canal stenosis, trained on A+N | 3 | 3 | the limit |" in text
    for picture in (
        "auroc_spinal_canal_stenosis.png",
        "auroc_subarticular_stenosis.png",
        "auroc_neural_foraminal_narrowing.png",
        "calibration.png",
    ):
        assert picture in text and (tmp_path / picture).stat().st_size > 2000
    with (tmp_path / "networks" / "report.csv").open(newline="") as file:
        assert [row["outcome"] for row in csv.DictReader(file)] == ["done"] * 20

    # Other settings are refused by what was made with them, and by nothing else.
    with pytest.raises(GaussianMRIError, match=r"networks holds a run with other settings"):
        run_experiment(tmp_path, replace(TINY, views=3), workers=1)
    with pytest.raises(GaussianMRIError, match=r"other settings \(test"):
        run_experiment(tmp_path, replace(TINY, test=4), workers=1)
    table = (tmp_path / "inputs" / "report.csv").read_text()
    (tmp_path / "inputs" / "report.csv").write_text(table + "999,failed,0.1,,,,broken\n")
    assert run_experiment(tmp_path, replace(TINY, resamples=20), workers=1) == report
    assert "Left out: 1 studies that failed, see inputs/report.csv" in report.read_text()


def test_the_command_says_its_size_and_stops_where_it_is_told(coarse: None, tmp_path: Path) -> None:
    arguments = [
        "experiment",
        "phantom",
        "--folder",
        str(tmp_path / "e"),
        "--reduced",
        "--train",
        "1",
        "--validation",
        "1",
    ]
    arguments += ["--test", "1", "--until", "cohort", "--workers", "1", "--device", "cpu"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "1 training, 1 validation, 1 test patients; at most 48 epochs" in result.output
    assert "Scanning phantoms: 3 of 3" in result.output
    assert len(list((tmp_path / "e" / "cohort" / "train_images").iterdir())) == 3
    assert not (tmp_path / "e" / "inputs").exists()
    again = CliRunner().invoke(main, [*arguments, "--seed", "1"])
    assert again.exit_code == 1 and "other settings (seed" in again.output


def test_what_is_installed_says_where_the_experiment_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = sys.modules["GaussianMRILib.cli.experiment"]  # the name in the package is the command's
    monkeypatch.setattr(program, "__file__", str(tmp_path / "site-packages" / "GaussianMRILib" / "cli" / "experiment.py"))
    result = CliRunner().invoke(main, ["experiment", "phantom", "--folder", "x", "--reduced"])
    assert result.exit_code == 1 and "comes with the source code and is not installed" in result.output


def test_damaged_predictions_are_named(tmp_path: Path) -> None:
    path = tmp_path / PREDICTIONS
    path.write_text("study_id,input_type,label\n1,A,Mild\n")
    with pytest.raises(GaussianMRIError, match=r"predictions\.csv cannot be read"):
        read_predictions(path)
