"""`gaussianmri grade`: train, evaluate and predict, what they print and write, how they fail."""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from disc_scenes import made_disc
from grading_cases import LEFT, QUICK, RIGHT, TINY, card, make_set

from GaussianMRILib import ImagePlane, write_volume
from GaussianMRILib.cli import main
from GaussianMRILib.grading.disc_sources import write_discs
from GaussianMRILib.grading.heatmap import NOTICE
from GaussianMRILib.grading.inputs import acquired_input
from GaussianMRILib.grading.labels import DISCLAIMER, GRADES
from GaussianMRILib.grading.measures import macro_auroc
from GaussianMRILib.grading.model_card import load_grader, save_grader
from GaussianMRILib.grading.network import GradingNetwork
from GaussianMRILib.grading.options import NetworkOptions
from GaussianMRILib.grading.predict import grade, grade_cases
from GaussianMRILib.grading.study import NO_NETWORK
from GaussianMRILib.grading.train import train_grader
from GaussianMRILib.stacks import read_stacks

FULL = (9, 112, 224)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["grade", *map(str, arguments), "-q"], catch_exceptions=False)


def full_network(path: Path, seed: int = 0, **changes: object) -> Path:
    """A network for inputs of full size, with few weights."""
    torch.manual_seed(seed)
    network = GradingNetwork(replace(TINY, slices=9))
    torch.nn.init.normal_(network.head.weight, std=0.2)  # nothing is sure
    return save_grader(path, network, card(shape=FULL, **changes))  # type: ignore[arg-type]


# ---- train ---------------------------------------------------------------------------------------------------


def test_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The command trains the paper's network; here a small one is that.
    monkeypatch.setattr(NetworkOptions.__init__, "__defaults__", (9, 1, 2, 16, 0.1, 1 / 16))
    make_set(tmp_path / "set", {"train": 6, "validation": 3}, shape=(9, 32, 64))
    output, log = tmp_path / "left.pt", tmp_path / "log.csv"
    common = (
        "train", tmp_path / "set", "--task", LEFT.name, "--epochs", 2, "--window", 1, "--batch", 4, "--rate", 1e-3,
        "--input-size", 16, 32, "--device", "cpu",
    )  # fmt: skip
    done = run(*common, "-o", output, "--log", log, "--level", "L5/S1", "--seed", 3)
    assert done.exit_code == 0, done.output
    assert (
        "left subarticular stenosis" in done.output and "SYNTHETIC: spots; L5/S1; A; 12 cases" in done.output
    )
    assert "5 Normal/Mild, 5 Moderate, 2 Severe" in done.output and "of 2" in done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["left.pt", "log.csv", "set"]
    made = load_grader(output, LEFT).card
    assert made.input_size == (16, 32) and made.shape == (9, 32, 64) and made.levels == ("L5/S1",)
    assert (
        made.training["seed"] == 3 and made.training["learning_rate"] == 1e-3 and made.training["batch"] == 4
    )
    assert len(log.read_text().splitlines()) == 3
    kept = tmp_path / "state.ckpt"
    assert run(*common, "-o", output, "--checkpoint", kept, "--no-mirror").exit_code == 0 and kept.is_file()
    assert load_grader(output).card.cases["train"] == dict.fromkeys(GRADES, 2)
    changed = run(*common, "-o", output, "--checkpoint", kept)
    assert changed.exit_code == 1 and "other options (mirror)" in changed.output
    none = run(*common, "-o", output, "--type", "N")
    assert none.exit_code == 1 and "0 training cases" in none.output
    assert run(*common, "-o", tmp_path / "a.ckpt").exit_code == 1  # the state would be overwritten
    # Of three validation cases there are few orders: none of 40 epochs can be better than all those before for long.
    ended = run(*common, "-o", output, "--log", log, "--epochs", 40, "--epoch-steps", 1, "--patience", 4)
    assert ended.exit_code == 0 and "; ended after 4 epochs without a better one" in ended.output, ended.output
    lines = [line.split(",") for line in log.read_text().splitlines()[1:]]
    best = max(range(len(lines)), key=lambda n: float(lines[n][4]))
    assert len(lines) == max(best + 1, 20) + 4 < 40
    assert f"epoch {best + 1} of {len(lines)}" in load_grader(output).card.chosen
    # Three cases show nothing, whatever the AUROC.
    assert "; no better than chance, which reaches 1.00 on them" in ended.output
    assert "Warning       Validation does not show" in ended.output


# ---- evaluate --------------------------------------------------------------------------------------------------


def test_evaluation(tmp_path: Path) -> None:
    crops = make_set(tmp_path / "set", {"train": 30, "test": 12}, types=("A", "R-GS"))
    models = []
    for name, epochs in (("good", 5), ("bad", 1)):
        o = replace(QUICK, epochs=epochs, learning_rate=3e-3 if epochs > 1 else 1e-6)
        models.append(train_grader(crops, LEFT, o).export(tmp_path / f"{name}.pt"))
    scores, cases_file = tmp_path / "scores.json", tmp_path / "cases.csv"
    done = run(
        "evaluate", tmp_path / "set", *models, "--views", 2, "--resamples", 100, "--json", scores,
        "--csv", cases_file, "--reliability", "--device", "cpu",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    content = json.loads(scores.read_text())
    assert [(r["model"], r["input_type"]) for r in content["results"]] == [
        (str(model), kind) for model in models for kind in ("A", "R-GS")
    ]
    first = content["results"][0]
    cases = crops.chosen("test", ["A"])
    p = grade_cases(load_grader(models[0]), crops, cases, views=2)
    value = macro_auroc(p, [case.label(LEFT) for case in cases])
    assert first["macro_auroc"]["value"] == pytest.approx(value, abs=1e-9) and first["cases"] == 12
    assert value > content["results"][2]["macro_auroc"]["value"]
    assert first["sha256"] == hashlib.sha256(models[0].read_bytes()).hexdigest() and first["synthetic"]
    assert sum(row["count"] for row in first["reliability"]) == 12
    assert (
        f"{value:.3f} (" in done.output and "good.pt SYNTHETIC" in done.output and DISCLAIMER in done.output
    )
    assert first["sha256"] in done.output and "trained on: SYNTHETIC: spots" in done.output
    assert "left_subarticular_stenosis, A: good.pt - bad.pt: " in done.output
    assert "probability of the grade" in done.output and "not calibrated" in done.output
    assert [d["input_type"] for d in content["differences"]] == ["A", "R-GS"]
    assert content["differences"][0]["macro_auroc"]["value"] == pytest.approx(
        value - content["results"][2]["macro_auroc"]["value"]
    )
    rows = list(csv.DictReader(cases_file.read_text().splitlines()))
    assert len(rows) == 48 and rows[0]["case"] == "test0-A" and rows[0]["grade"] == "Normal/Mild"
    assert float(rows[0]["Severe"]) == pytest.approx(p[0, 2], abs=1e-5)
    few = make_set(tmp_path / "few", {"test": 2})  # nothing severe
    undefined = run("evaluate", few.folder, models[0], "--views", 1, "--resamples", 5, "--device", "cpu")
    assert (
        undefined.exit_code == 0 and undefined.output.count("undefined") == 3
    )  # of the class, of the mean, and the balanced accuracy
    nothing = run("evaluate", few.folder, models[0], "--split", "train", "--device", "cpu")
    assert nothing.exit_code == 1 and "no case of the split train" in nothing.output


# ---- predict ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A volume of axial slices with a disc in it, and the file of the disc."""
    folder = tmp_path_factory.mktemp("scan")
    planes = [
        ImagePlane.from_axes((0, -10, z), (-1, 0, 0), (0, -1, 0), spacing=(0.8, 0.8), shape=(120, 160), thickness=4.0)
        for z in np.arange(-8.0, 50.0, 4.5)
    ]
    generator = np.random.default_rng(0)
    pixels = 100 + 40 * generator.standard_normal((len(planes), 120, 160)).cumsum(axis=2) / 8
    volume = write_volume(folder / "axial.nrrd", np.clip(pixels, 20, 300).astype(np.float32), planes)
    return volume, write_discs(folder / "discs.json", {"L5/S1": made_disc(tilt=4.0)})


def test_prediction(scan: tuple[Path, Path], tmp_path: Path) -> None:
    volume, discs = scan
    models = [
        full_network(tmp_path / "left.pt"),
        full_network(tmp_path / "right.pt", 1, task=RIGHT, synthetic=True),
    ]
    common = ("--scan", volume, "--discs", discs, "--level", "L5/S1", "--views", 3, "--device", "cpu")
    page = tmp_path / "page.html"
    done = run("predict", *models, *common, "--json", tmp_path / "grades.json", "--report", page)
    assert done.exit_code == 0, done.output
    assert page.read_text(encoding="utf-8").count("data:image/png") == 2 and done.output.count(NOTICE) == 2
    (stack,) = read_stacks([volume])
    inputs = acquired_input(made_disc(tilt=4.0), stack)
    expected = grade([load_grader(model) for model in models], inputs, 3)
    rows = json.loads((tmp_path / "grades.json").read_text())["grades"]
    assert [row["remarks"] for row in rows if row["grade"] is None] == [[NO_NETWORK]] * 3
    content = [row for row in rows if row["grade"]]
    for found, mine in zip(content, expected, strict=True):
        assert found["text"] == mine.text and mine.text in done.output
        assert list(found["probabilities"].values()) == pytest.approx(list(mine.probabilities), abs=1e-4)
        for line in mine.notes:
            assert line in done.output, line
    assert content[0]["input_type"] == "A" and content[1]["text"].endswith("SYNTHETIC")
    assert content[0]["input"]["level"] == "L5/S1"


def test_prediction_on_resampled_planes(scan: tuple[Path, Path], tmp_path: Path) -> None:
    volume, _ = scan
    tilted = write_discs(tmp_path / "tilted.json", {"L5/S1": made_disc(tilt=30.0)})
    model = full_network(tmp_path / "left.pt")
    common = ("--scan", volume, "--discs", tilted, "--level", "L5/S1", "--views", 1, "--device", "cpu")
    texts = {}
    for kind, name in (("acquired", "N"), ("R-VI", "R-VI")):
        done = run("predict", model, *common, "--type", kind)
        assert done.exit_code == 0 and f"Input type: {name}" in done.output, done.output
        texts[kind] = done.output
    assert texts["acquired"].splitlines()[2] != texts["R-VI"].splitlines()[2]


def test_predictions_that_cannot_be(scan: tuple[Path, Path], tmp_path: Path) -> None:
    volume, discs = scan
    model = full_network(tmp_path / "left.pt")
    common = ("--scan", volume, "--discs", discs, "--views", 1, "--device", "cpu")
    other = run("predict", model, *common, "--level", "L4/L5")
    assert other.exit_code == 1 and "no such disc in the file" in other.output
    assert f"Nothing was graded: {volume}, {discs}." in other.output
    lower = full_network(tmp_path / "lower.pt", levels=("L3/L4",))
    refused = run("predict", lower, *common, "--level", "L5/S1")
    assert (
        refused.exit_code == 1 and "cannot grade L5/S1" in refused.output and "moderate" not in refused.output
    )
    missing = run("predict", tmp_path / "none.pt", *common, "--level", "L5/S1")
    assert missing.exit_code == 1 and "none comes with this software" in missing.output
    nothing = run("predict", *common)
    assert nothing.exit_code == 2 and "none comes with this software" in nothing.output
    far = write_discs(tmp_path / "far.json", {"L5/S1": made_disc(tilt=4.0, center=(3.0, -10.0, 300.0))})
    outside = run("predict", model, "--scan", volume, "--discs", far, "--level", "L5/S1", "--device", "cpu")
    assert outside.exit_code == 1 and "No grade: " in outside.output and "no slice lies at L5/S1" in outside.output


def test_the_group_lists_its_commands() -> None:
    done = CliRunner().invoke(main, ["grade", "--help"])
    for name in ("prepare", "validate", "train", "calibrate", "predict", "evaluate", "Research use only"):
        assert name in " ".join(done.output.split())
