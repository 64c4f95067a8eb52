"""Whole studies: from DICOM and a label map to a table of grades, left and right, and what is missing in it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from grading_cases import QUICK, Input, card
from study_scenes import KINDS, import_probe, probe_graders, stenosed_left, write_study

from GaussianMRILib.cli import main
from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.grading.crops import Case, CropSet
from GaussianMRILib.grading.inputs import vertebral_median
from GaussianMRILib.grading.labels import GRADES, LEVELS, STENOSES, Task
from GaussianMRILib.grading.model_card import Grader
from GaussianMRILib.grading.network import for_inference
from GaussianMRILib.grading.options import GradingOptions
from GaussianMRILib.grading.predict import grade, grade_cases
from GaussianMRILib.grading.prepare import PrepareOptions, study_inputs
from GaussianMRILib.grading.rsna_series import oriented_slabs
from GaussianMRILib.grading.spine_labels import SpineLabels, read_spine_labels, spine_labels
from GaussianMRILib.grading.study import COLUMNS, NO_NETWORK, StudyGrade, grade_study, write_grades
from GaussianMRILib.grading.study_series import series_of_study, weighting
from GaussianMRILib.grading.train import GradingTrainer
from GaussianMRILib.labels import LabelFile
from GaussianMRILib.stacks import SliceStack, read_stacks

FORAMEN = Task("neural_foraminal_narrowing", "left")
Study = tuple[list[SliceStack], SpineLabels]


def read(folder: Path) -> Study:
    return read_stacks([folder / "dicom"]), read_spine_labels(folder / "labels.nii.gz")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return read(write_study(tmp_path_factory.mktemp("study"), stenosed_left()))


def changed(labels: SpineLabels, change: Callable[[np.ndarray], None], name: str = "map") -> SpineLabels:
    voxels = labels.labels.voxels.copy()
    change(voxels)
    return spine_labels(LabelFile(voxels, labels.labels.ijk_to_ras), name)


def test_25_grades_and_the_side(study: Study, tmp_path: Path) -> None:
    stacks, labels = study
    told: list[float] = []
    found = grade_study(probe_graders(), stacks, labels=labels, views=2, progress=lambda part, _: told.append(part))
    assert [(row.level, row.task) for row in found.rows] == [(level, task) for level in LEVELS for task in STENOSES]
    assert {(row.level, row.task.name) for row in found.rows if row.grade and row.grade.label == "Severe"} == {
        ("L5/S1", "left_subarticular_stenosis"), ("L5/S1", "left_neural_foraminal_narrowing"),
    }  # fmt: skip
    assert all(row.grade and row.grade.input_type == KINDS[row.task] and not row.remarks for row in found.rows)
    assert not found.remarks and told == sorted(told) and told[-1] == 1.0
    write_grades(tmp_path / "table.csv", found)
    with open(tmp_path / "table.csv", encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS and len(rows) == 25
    severe = next(row for row in rows if row["grade"] == "Severe")
    assert severe["level"] == "L5/S1" and severe["side"] == "left" and severe["checkpoint"] == "1" * 64
    assert {(row["condition"], row["series"]) for row in rows} == {
        ("subarticular stenosis", "SYNTHETIC T2 axial"), ("spinal canal stenosis", "SYNTHETIC T2 sagittal"),
        ("neural foraminal narrowing", "SYNTHETIC T1 sagittal"),
    }  # fmt: skip
    # The series and not its name alone: cerebrospinal fluid is dark in what the networks of the foramina saw.
    canals = {row.task.condition: row.inputs.images[4, 46:66, 118:132].mean() for row in found.rows[20:] if row.inputs}
    assert canals["neural_foraminal_narrowing"] < 0.2 and canals["spinal_canal_stenosis"] > 0.4
    assert float(severe["P severe"]) == pytest.approx(found.rows[21].grade.probabilities[2], abs=6e-4)  # type: ignore[union-attr]


def test_the_mirror_image_has_it_on_the_right(tmp_path: Path) -> None:
    """From DICOM and a label map to the table in one call, by networks from elsewhere."""
    write_study(tmp_path, stenosed_left(mirrored=True))
    models = tmp_path / "models"
    models.mkdir()
    for task in STENOSES:
        import_probe(task, tmp_path, models / f"{task.name}.pt")
    done = CliRunner().invoke(
        main,
        ["grade", "predict", "--study", str(tmp_path / "dicom"), "--labels", str(tmp_path / "labels.nii.gz"), "--views", "1",
         "-o", str(tmp_path / "table.csv"), "--json", str(tmp_path / "grades.json"), "--device", "cpu", "-q"],
        env={"GAUSSIANMRI_GRADERS": str(models)}, catch_exceptions=False,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    with open(tmp_path / "table.csv", encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 25 and all(row["grade"] and not row["remarks"] for row in rows)
    assert [(row["level"], row["side"], row["condition"]) for row in rows if row["grade"] == "Severe"] == [
        ("L5/S1", "right", "subarticular stenosis"), ("L5/S1", "right", "neural foraminal narrowing"),
    ]  # fmt: skip
    assert "L5/S1 right subarticular: severe" in done.output and "licence: invented" in done.output
    grades = json.loads((tmp_path / "grades.json").read_text(encoding="utf-8"))["grades"]
    assert [f"{grade['probabilities']['Severe']:.3f}" for grade in grades] == [row["P severe"] for row in rows]


def test_a_study_without_t1_has_no_grade_of_its_foramina(study: Study, tmp_path: Path) -> None:
    """Its sagittal T2 series, which shows them too, is not what their networks were trained on."""
    stacks, labels = study
    without = [stack for stack in stacks if weighting(stack) == "T2"]
    assert len(without) == len(stacks) - 1
    write_grades(tmp_path / "table.csv", grade_study(probe_graders(), without, labels=labels, views=1))
    with open(tmp_path / "table.csv", encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    foramina = [row for row in rows if row["condition"] == "neural foraminal narrowing"]
    assert len(rows) == 25 and len(foramina) == 10
    assert all(row["grade"] == row["series"] == row["P severe"] == "" for row in foramina)
    assert {row["remarks"] for row in foramina} == {"the study has no sagittal T1 series"}
    assert all(row["grade"] and not row["remarks"] for row in rows if row not in foramina)


def test_what_is_missing_is_said(study: Study) -> None:
    stacks, labels = study
    axial, t2, t1 = (next(s for s in stacks if words in s.name) for words in ("axial", "T2 sagittal", "T1 sagittal"))
    graders = probe_graders()
    without = grade_study(graders[:4], [axial, t2], labels=labels, levels=["L4/L5"], views=1)
    by_name = {row.task.name: row for row in without.rows}
    assert by_name["left_neural_foraminal_narrowing"].remarks == ("the study has no sagittal T1 series",)
    assert by_name["right_neural_foraminal_narrowing"].remarks == (NO_NETWORK,)
    assert by_name["left_subarticular_stenosis"].grade and by_name["spinal_canal_stenosis"].grade
    # The slices of a lateral half do not show the other foramen.
    across = t1.ijk_to_ras[:, 0, 3]
    half = t1.subset(np.flatnonzero(across > across.mean() - 2))
    one_side = {r.task.side: r for r in grade_study(graders, [axial, t2, half], labels=labels, views=1).rows[-2:]}
    assert one_side["right"].grade is not None and one_side["left"].grade is None
    (whole,) = grade_study(graders[:1], stacks, labels=labels, levels=["L5/S1"], views=1).rows[:1]
    middle = [row.inputs.facts["reference_ras"] for row in (one_side["right"], whole) if row.inputs]
    assert middle[0] == pytest.approx(middle[1], abs=0.8), "half a series does not move the disc"
    assert one_side["left"].remarks == ("no sagittal slice lies at 12 mm or more to the patient's left of the disc",)
    low = axial.subset(np.argsort(axial.ijk_to_ras[:, 2, 3])[:5])
    only_low = grade_study(graders[1:2], [low, t2, t1], labels=labels, views=1)
    recess = [row for row in only_low.rows if row.task == graders[1].card.task]
    assert [row.grade is not None for row in recess] == [False] * 4 + [True]
    assert "no slice lies at L1/L2" in recess[0].remarks[0]
    with pytest.raises(GaussianMRIError, match="stopped"):
        grade_study(graders, stacks, labels=labels, views=1, progress=lambda part, _: part < 0.1)
    trained_elsewhere = replace(graders[0], card=replace(graders[0].card, levels=("L1/L2",)))
    rows = grade_study([trained_elsewhere], stacks, labels=labels, levels=("L1/L2", "L5/S1"), views=1).rows
    assert rows[0].grade and "cannot grade L5/S1" in rows[5].remarks[0]


def test_label_maps_that_cannot_be(study: Study) -> None:
    stacks, labels = study
    graders = probe_graders()[:2]
    scheme = labels.scheme

    def twice(voxels: np.ndarray) -> None:
        voxels[voxels == scheme.vertebrae["L2"]] = scheme.vertebrae["L4"]

    rows = {row.level: row for row in grade_study(graders, stacks, labels=changed(labels, twice), views=1).rows[::5]}
    assert rows["L4/L5"].grade is None and "twice" in rows["L4/L5"].remarks[0]
    assert rows["L1/L2"].grade is None and rows["L5/S1"].grade is not None

    def cut(voxels: np.ndarray) -> None:
        for name in ("L1", "L2"):
            voxels[voxels == scheme.vertebrae[name]] = 0
        voxels[voxels == scheme.discs["L1/L2"]] = 0

    rows = {row.level: row for row in grade_study(graders, stacks, labels=changed(labels, cut), views=1).rows[::5]}
    assert "not in the field of view" in rows["L1/L2"].remarks[0] and rows["L1/L2"].grade is None
    for axes, words in (([-1, 1, 1, 1], "as in a mirror"), ([1, 1, 1, 1], "outside the scan")):
        matrix = np.diag(axes) @ labels.labels.ijk_to_ras
        matrix[:3, 3] += 0 if axes[0] < 0 else 120
        with pytest.raises(GaussianMRIError, match=words):
            grade_study(graders, stacks, labels=spine_labels(LabelFile(labels.labels.voxels, matrix), "map"), views=1)
    discs, _ = labels.discs()
    renamed = {"L5/S1": replace(discs["L4/L5"], level="L5/S1")}
    (row, *_) = grade_study(graders, stacks, labels=labels, discs=renamed, levels=["L5/S1"], views=1).rows
    assert row.grade is None and "lies at L4/L5" in row.remarks[0]
    with pytest.raises(GaussianMRIError, match="There are no discs"):
        grade_study(graders, stacks)


def test_a_patient_who_moved(study: Study) -> None:
    stacks, labels = study
    moved = [replace(s, frame_of_reference="1.2") if "axial" in s.name else s for s in stacks]
    series = series_of_study(moved, labels.labels, "map")
    assert not series.axial and sorted(series.sagittal) == ["S-T1", "S-T2"]
    assert "another frame of reference" in series.remarks[0] and "axial" in series.remarks[0]
    elsewhere = LabelFile(labels.labels.voxels[:, 1:], labels.labels.ijk_to_ras)
    with pytest.raises(GaussianMRIError, match="2 frames of reference"):
        series_of_study(moved, elsewhere, "map")
    another = {**stacks[0].source["attributes"], "00100020": {"vr": "LO", "Value": ["other"]}}
    with pytest.raises(GaussianMRIError, match="different patients"):
        series_of_study([replace(stacks[0], source={**stacks[0].source, "attributes": another}), *stacks[1:]])


@pytest.mark.parametrize(
    ("echo", "repetition", "inversion", "description", "expected"),
    [
        (100.0, 3500.0, None, "", "T2"), (10.0, 600.0, None, "", "T1"), (9.0, 2200.0, 860.0, "", "T1"),
        (40.0, 4000.0, 160.0, "", "T2"), (20.0, 3000.0, None, "SAG PD", ""), (20.0, 3000.0, None, "T1 FLAIR", "T1"),
        (10.0, 600.0, None, "T2 misnamed", "T1"), (None, None, None, "AX T2 TSE", "T2"), (None, None, None, "T2* GRE", ""),
        (None, None, None, "T1 and T2", ""), (None, None, None, "STIR sag", "T2"), (None, None, None, "12_t1", "T1"),
    ],
)  # fmt: skip
def test_weighting(echo: float, repetition: float, inversion: float, description: str, expected: str) -> None:
    contrast = {"echo_time": echo, "repetition_time": repetition, "inversion_time": inversion}
    attributes = {"0008103E": {"vr": "LO", "Value": [description]}} if description else {}
    stack = SliceStack.from_array(
        np.zeros((2, 3, 3)), np.eye(4), name="volume", source={"contrast": contrast, "attributes": attributes}
    )
    assert weighting(stack) == expected


def saying(stack: SliceStack, name: str, **contrast: object) -> SliceStack:
    """The same slices under another name, whose header says something else of the contrast."""
    attributes = {**stack.source.get("attributes", {}), "0008103E": {"vr": "LO", "Value": [name]}}
    said = {**stack.source.get("contrast", {}), **contrast}
    source = {**stack.source, "series_uid": name, "attributes": attributes, "contrast": said}
    return replace(stack, name=name, source=source)


@pytest.mark.parametrize(
    ("name", "contrast", "what"),
    [
        ("A", {"b_value": 800.0}, "it is diffusion-weighted"), ("ep2d_diff_tra", {}, "it is diffusion-weighted"),
        ("B", {"scanning_sequence": "EP/SE", "b_value": 0.0}, "it is echo-planar"),
        ("C", {"component": "diffusion"}, "it shows diffusion"),
    ],
)  # fmt: skip
def test_diffusion_is_no_t2(study: Study, name: str, contrast: dict[str, object], what: str) -> None:
    """Its echo time is; more slices, or a place before the others, give it no part."""
    stacks, labels = study
    series = series_of_study(stacks, labels.labels)
    for stack in (series.axial[0], series.sagittal["S-T2"]):
        diffusion = saying(stack, name, echo_time=75.0, **contrast)
        assert weighting(diffusion) == "T2"
        found = series_of_study([diffusion, *stacks], labels.labels)
        assert found.remarks == (f"{name} is not used: {what}",)
        assert name not in {each.name for each in (*found.axial, *found.sagittal.values())}
    usual = saying(series.axial[0], "diffuse pain, T2", b_value=0.0, scanning_sequence="SE")
    assert not series_of_study([usual], labels.labels).remarks, "GE writes a b-value of 0 into all images"


def test_the_sagittal_series_that_shows_the_discs(study: Study) -> None:
    """Of a whole spine in two parts the lower, whichever comes first and whatever else the label map holds."""
    stacks, labels = study
    t2, t1 = (next(s for s in stacks if words in s.name) for words in ("T2 sagittal", "T1 sagittal"))
    up = np.eye(4)
    up[2, 3] = 200
    upper = [saying(replace(s, ijk_to_ras=up @ s.ijk_to_ras), f"upper {s.name}") for s in (t1, t2)]
    graders = [one for one in probe_graders() if KINDS[one.card.task] != "A"]
    used = {"SYNTHETIC T2 sagittal", "SYNTHETIC T1 sagittal"}
    matrix, voxels = labels.labels.ijk_to_ras.copy(), labels.labels.voxels[:, 1:].copy()
    matrix[:3, 3] += matrix[:3, 1]
    voxels[1:-1, 1:31] = labels.scheme.discs["T11/T12"]  # more than all the lumbar ones together
    for spine in (labels, spine_labels(LabelFile(voxels, matrix), "another grid")):
        rows = grade_study(graders, [*upper, t2, t1], labels=spine, views=1).rows
        graded = [row for row in rows if row.grade]
        assert {row.series for row in graded} == used and len(graded) == 15
    discs, _ = labels.discs()
    rows = grade_study(graders, [*upper, t2, t1], discs=discs, views=1).rows
    assert {row.series for row in rows if row.grade} == used


@pytest.mark.parametrize(
    "said", [{"scanning_sequence": "IR/SE"}, {"inversion_time": 160.0}, {"name": "STIR sag"}]
)
def test_stir_comes_after_t2(study: Study, said: dict[str, object]) -> None:
    stacks, labels = study
    t2 = next(stack for stack in stacks if "T2 sagittal" in stack.name)
    stir = saying(t2, **{"name": "before", **said})  # type: ignore[arg-type]
    for given in (labels.labels, None):
        found = series_of_study([stir, t2], given, discs=labels.disc_points())
        assert found.sagittal["S-T2"] is t2 and "T2 series SYNTHETIC T2 sagittal is" in found.remarks[0]
    cut = t2.subset(np.arange(5))
    alone = series_of_study([stir, cut], discs=labels.disc_points())
    assert alone.sagittal["S-T2"] is stir, "it alone shows the discs"


@pytest.mark.parametrize("kind", ["acquired", "R-VI"])
def test_scaled_at_another_disc(study: Study, kind: str) -> None:
    """Whichever levels are wanted, said in the row, and as the inputs of a training are made."""
    stacks, labels = study
    axial, t2 = (next(s for s in stacks if words in s.name) for words in ("axial", "T2 sagittal"))
    discs, _ = labels.discs(sagittal=t2)
    near = np.argsort(np.abs(axial.distances(discs["L1/L2"].center)))
    short = axial.subset(np.setdiff1d(np.arange(len(axial.pixels)), near[3:5]))
    found = [
        grade_study(probe_graders()[1:2], [short, t2], kind=kind, views=1, levels=["L1/L2"], **given).rows[1]
        for given in ({"labels": labels}, {"discs": discs})
    ]
    remark = "intensities are scaled by the vertebrae beside L2/L3, as too few pixels show its own"
    assert [row.remarks[:1] for row in found] == [(remark,)] * 2 and all(row.grade for row in found)
    assert found[0].inputs and found[0].inputs.facts["vertebral_median_of"] == "L2/L3"
    assert found[0].to_dict()["input"]["vertebral_median_of"] == "L2/L3"
    if kind == "acquired":
        options = PrepareOptions(types=("A",))
        slabs, others = oriented_slabs(short), [*discs.values()]
        made, _ = study_inputs(discs["L1/L2"], slabs, {}, options=options, others=others)
        assert np.array_equal(made["A"].images, found[0].inputs.images)


def test_another_series_does_not_say_the_scale(study: Study) -> None:
    """A series of another gain, whether or not it reaches the vertebrae beside the disc that one of three slices shows."""
    stacks, labels = study
    axial, t2 = (next(s for s in stacks if words in s.name) for words in ("axial", "T2 sagittal"))
    discs, _ = labels.discs(sagittal=t2)
    near = np.argsort(np.abs(axial.distances(discs["L1/L2"].center)))
    own, rest, below = near[:3], np.setdiff1d(np.arange(len(axial.pixels)), near[:3]), near[7:]

    def row(*series: SliceStack) -> StudyGrade:
        return grade_study(
            probe_graders()[1:2], [*series, t2], labels=labels, kind="R-VI", views=1, levels=["L1/L2"]
        ).rows[1]

    for kept in (rest, below):
        other = replace(axial.subset(kept), pixels=axial.pixels[kept] * 3)
        refused = row(saying(axial.subset(own), "T2 at the disc"), saying(other, "T2 of another gain"))
        assert refused.grade is None and "too few to scale" in refused.remarks[0]
    whole = [*own, *below]
    found = row(saying(axial.subset(whole), "T2 of all discs"), saying(other, "T2 of another gain"))
    expected = vertebral_median(axial.subset(whole), discs["L2/L3"])
    assert found.grade and found.inputs and found.inputs.facts["vertebral_median_of"] == "L2/L3"
    assert found.inputs.facts["vertebral_median"] == expected


def test_the_series_that_was_shown_is_named(study: Study) -> None:
    stacks, labels = study
    axial = next(stack for stack in stacks if "axial" in stack.name)
    fewer = saying(axial.subset(np.flatnonzero(np.arange(len(axial.pixels)) % 5 < 4)), "T2 tra before")
    rows = grade_study(probe_graders()[1:2], [fewer, *stacks], labels=labels, levels=["L5/S1"], views=1).rows
    (graded,) = (row for row in rows if row.grade)
    assert graded.cells()["series"] == axial.name != fewer.name


def sagittal_spots(left: int, right: int, generator: np.random.Generator) -> Input:
    """A spot in the last slice of three for the left, in the first for the right."""
    images = generator.uniform(0.2, 0.3, (3, 16, 32))
    images[2, 5:11, 12:20] += 0.3 * left
    images[0, 5:11, 12:20] += 0.3 * right
    return Input(images.astype(np.float32), np.ones(3, bool), input_type="S-T1")


def test_sagittal_slices_are_never_turned_round(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    crops = CropSet.create(tmp_path / "set", {"data": "spots", "synthetic": True})
    for n, grades in enumerate((("Severe", "Normal/Mild"), ("Normal/Mild", "Moderate"))):
        names = {Task(FORAMEN.condition, side).name: name for side, name in zip(("left", "right"), grades, strict=True)}
        left, right = (GRADES.index(name) for name in grades)
        spots = replace(sagittal_spots(left, right, generator), mask=np.array([True, True, n == 0]))
        crops.add(Case(f"{n}", f"{n}", f"{n}", "L5/S1", "S-T1", "train", names), spots)
    trainer = GradingTrainer(crops, FORAMEN, replace(QUICK, input_types=("S-T1",)))
    assert [(e.case.case_id, e.mirror, GRADES[e.label]) for e in trainer.examples] == [
        ("0", False, "Severe"), ("0", True, "Normal/Mild"), ("1", False, "Normal/Mild"), ("1", True, "Moderate"),
    ]  # fmt: skip
    images, mask = trainer._batch(trainer.examples)
    assert torch.equal(images[1], images[0].flip(0)) and torch.equal(images[3], images[2].flip(0))
    assert mask.tolist() == [[True] * 3, [True] * 3, [True, True, False], [False, True, True]]
    assert images[3, 2, 5:11, 12:20].mean() > 0.5, "the spot on the right is on the left of the mirror image"
    assert trainer._augment.flip_slices == 0 and trainer.options.augment.flip_slices > 0
    learned = trainer.network
    with torch.no_grad():  # a network that has hardly learned hardly sees which slice is which
        learned.positions *= 50
    network = Grader(for_inference(learned), trainer.card, "0" * 64)
    one_image = crops.images(crops.cases[0])[0].astype(np.float32), np.ones(3, bool)
    one, two = (grade(network, one_image, views)[0].probabilities for views in (1, 2))
    assert one == pytest.approx(two, abs=1e-6), "the second view turns the slices round, which are left and right here"
    axial = replace(network, card=replace(network.card, input_types=("A",)))
    assert grade(axial, one_image, 2)[0].probabilities != pytest.approx(one, abs=1e-6)
    with pytest.raises(GaussianMRIError, match="cannot be shown A"):
        grade_cases(network, crops, [replace(crops.cases[0], input_type="A")])
    with pytest.raises(GaussianMRIError, match="axial and sagittal"):
        GradingOptions(input_types=("A", "S-T1"))


def test_conditions_without_a_side() -> None:
    canal = Task("spinal_canal_stenosis")
    assert Task.named(canal.name) == canal == canal.mirrored and canal.column("L5/S1") == "spinal_canal_stenosis_l5_s1"
    assert Task.named("left_neural_foraminal_narrowing") == FORAMEN and len(STENOSES) == 5
    for condition, side in (("spinal_canal_stenosis", "left"), ("subarticular_stenosis", "")):
        with pytest.raises(GaussianMRIError, match="not graded here"):
            Task(condition, side)
    found = card(canal, input_types=("S-T2",))
    assert type(found).from_dict(found.to_dict()) == found and found.sees == ("S-T2",)
    with torch.no_grad():
        assert card(FORAMEN).sees == ("A", "N", "R-VI", "R-GS")


def test_a_set_that_knew_fewer_conditions(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    crops = CropSet.create(tmp_path / "set", {"data": "spots"})
    case = Case("1", "1", "1", "L5/S1", "S-T1", "train", {FORAMEN.name: "Severe"})
    crops.add(case, sagittal_spots(1, 0, generator))
    table = tmp_path / "set" / "cases.csv"
    with open(table, newline="") as file:
        rows = list(csv.reader(file))
    kept = [n for n, name in enumerate(rows[0]) if name not in ("spinal_canal_stenosis", "disc_degeneration")]
    table.write_text("".join(",".join(row[n] for n in kept) + "\n" for row in rows))
    old = CropSet.read(tmp_path / "set")
    assert old.cases[0].grades == {FORAMEN.name: "Severe"}
    old.add(replace(case, case_id="2", grades={"spinal_canal_stenosis": "Moderate"}), sagittal_spots(0, 0, generator))
    again = CropSet.read(tmp_path / "set")
    assert [each.grades for each in again] == [{FORAMEN.name: "Severe"}, {"spinal_canal_stenosis": "Moderate"}]
