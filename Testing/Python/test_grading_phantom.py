"""The phantom with stenosis: grades follow from its anatomy, left is left, and a study is read as it was written."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graded_scenes import CANAL, FORAMEN, RECESS, coarse, stenosed

from GaussianMRILib import GaussianMRIError
from GaussianMRILib.grading.disc_sources import read_discs
from GaussianMRILib.grading.inputs import acquired_input, alignment_degrees
from GaussianMRILib.grading.labels import GRADES, LATERAL_TASKS, STENOSES, Task
from GaussianMRILib.grading.prepare import PrepareOptions, prepare, study_inputs
from GaussianMRILib.grading.roi import RegionOptions
from GaussianMRILib.grading.rsna import RsnaDataset
from Testing.Experiment import cohort as graded_cohort
from Testing.Experiment import graded
from Testing.Experiment.cohort import graded_scans, true_disc, write_rsna_cohort, write_rsna_study
from Testing.Experiment.graded import THRESHOLDS, GradedPhantom

__all__ = ["coarse"]  # a fixture
SEED = 5
#: Bulge and room (mm), grade and label of the four lateral stenoses of seed 3 without a bulge of the canal.
FROZEN = [(4.274, 7.594, 1, 1), (2.535, 8.122, 1, 1), (0.0, 6.487, 0, 0), (2.821, 2.919, 1, 1)]


def _signal(phantom: GradedPhantom, u: float, v: float) -> float:
    """Mean signal in 2 mm around a place at the height of the disc."""
    offsets = np.stack(np.meshgrid(*[np.linspace(-1, 1, 5)] * 2), axis=-1).reshape(-1, 2)
    return float(phantom.intensity([phantom.frame.to_ras(u + a, v + b, 0) for a, b in offsets]).mean())


# ---- grades ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", STENOSES, ids=lambda task: task.name)
def test_a_deeper_bulge_leaves_less_room_and_a_worse_grade(task: Task) -> None:
    depths = np.linspace(0, graded.DEEPEST[task.condition], 8)
    found = [stenosed(SEED, (task, float(depth))).stenoses[task] for depth in depths]
    rooms = [stenosis.room for stenosis in found]
    assert np.all(np.diff(rooms) < 0)
    # Its highest point lies within 2 mm of where the room is measured.
    assert 0.7 * depths[-1] < rooms[0] - rooms[-1] <= depths[-1]
    moderate, severe = THRESHOLDS[task.condition]
    assert [s.grade for s in found] == [0 if r >= moderate else 1 if r >= severe else 2 for r in rooms]
    assert found[0].grade == 0 and found[-1].grade == 2
    # What happens on one side leaves the other as it was; a canal's bulge is wide enough to touch both recesses.
    ends = [stenosed(SEED, (task, float(depth))) for depth in depths[[0, -1]]]
    if task.side:
        assert ends[0].stenoses[task.mirrored].room == ends[1].stenoses[task.mirrored].room
    else:
        assert all(0 <= ends[0].stenoses[t].room - ends[1].stenoses[t].room < 0.2 for t in LATERAL_TASKS)


def test_the_canal_changes_nothing_where_it_has_no_bulge() -> None:
    """Grades, labels and anatomy of the other conditions from before there was a canal to grade."""
    phantom = GradedPhantom(3, {CANAL: 0.0})
    found = {task: phantom.stenoses[task] for task in LATERAL_TASKS}
    assert [(round(s.bulge, 3), round(s.room, 3), s.grade, s.label) for s in found.values()] == FROZEN
    places = ((0, -22, 0), (8, -25, 1), (-10, -22, -2), (19, -17, 0), (2, -30, 1))
    shown = [float(phantom.intensity(phantom.frame.to_ras(*place))) for place in places]
    assert shown == pytest.approx([0.919, 0.4267, 0.3691, 0.3405, 0.7082], abs=2e-4)
    drawn = GradedPhantom(3)
    assert [s.bulge for s in found.values()] == [drawn.stenoses[task].bulge for task in LATERAL_TASKS]
    assert not [layer.name for layer in phantom._painting.layers if layer.distance.__qualname__.startswith("_indented")]


def test_grades_of_a_cohort_are_spread() -> None:
    phantoms = [GradedPhantom(seed) for seed in range(40)]
    assert 20 < min(p.tilt for p in phantoms) and max(p.tilt for p in phantoms) < 42
    shares = np.bincount([p.stenoses[task].grade for p in phantoms for task in LATERAL_TASKS], minlength=3) / 160
    assert np.all(shares > (0.4, 0.12, 0.1)) and np.all(shares < (0.75, 0.4, 0.4))
    canals = np.bincount([p.stenoses[CANAL].grade for p in phantoms], minlength=3) / 40
    assert np.all(canals > (0.4, 0.1, 0.1)) and np.all(canals < (0.75, 0.4, 0.4))


def test_reports_name_a_neighbouring_grade_in_an_eighth() -> None:
    generator = np.random.default_rng(1)
    for grade in range(3):
        reported = np.bincount([graded._reported(grade, generator) for _ in range(6000)], minlength=3) / 6000
        assert reported[grade] == pytest.approx(0.875, abs=0.02)
        if grade != 1:
            assert reported[2 - grade] == 0
        else:
            assert reported[0] == pytest.approx(reported[2], abs=0.02)


def test_the_same_seed_is_the_same_patient() -> None:
    first, second, other = GradedPhantom(3), GradedPhantom(3), GradedPhantom(4)
    assert first.facts() == second.facts() != other.facts()
    points = first.frame.to_ras(-10, -20, 0) + np.random.default_rng(0).uniform(-9, 9, (200, 3))
    assert np.array_equal(first.intensity(points), second.intensity(points))


def test_severities_out_of_range_are_refused() -> None:
    with pytest.raises(GaussianMRIError, match=r"0 to 6 mm deep, got 6.5"):
        GradedPhantom(0, {FORAMEN["left"]: 6.5})


# ---- anatomy ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_bulge_takes_the_fat_of_its_recess_and_pushes_the_root(side: str) -> None:
    sign = -1 if side == "left" else 1
    healthy, ill = stenosed(SEED), stenosed(SEED, (RECESS[side], 7.0))
    # Fat between disc and root becomes disc; where the root was is disc too; the root lies further back.
    assert _signal(healthy, sign * 10, -18.0) > 2 * _signal(ill, sign * 10, -18.0)
    assert _signal(ill, sign * 10, -18.0) < 0.35
    assert _signal(healthy, sign * 10, -26.5) > 1.15 * _signal(ill, sign * 10, -26.5)
    # The other side is as it was.
    assert _signal(healthy, -sign * 10, -18.0) == pytest.approx(_signal(ill, -sign * 10, -18.0), abs=1e-6)


def test_a_foraminal_bulge_pushes_the_l5_root() -> None:
    healthy, ill = stenosed(SEED), stenosed(SEED, (FORAMEN["left"], 6.0))
    assert _signal(healthy, -19, -16.5) > 1.4 * _signal(ill, -19, -16.5)
    assert _signal(healthy, 19, -16.5) == pytest.approx(_signal(ill, 19, -16.5), abs=1e-6)


def test_a_bulge_of_the_canal_flattens_the_sac() -> None:
    """CSF in the front of the sac becomes disc; its back and what lies above and below stay as they are."""
    healthy, ill = stenosed(SEED), stenosed(SEED, (CANAL, 10.0))
    assert _signal(healthy, 0, -22.5) > 0.8 and _signal(ill, 0, -22.5) < 0.35
    assert _signal(ill, 0, -30.5) == pytest.approx(_signal(healthy, 0, -30.5), abs=0.15)

    def depth(phantom: GradedPhantom, s: float) -> float:
        sac = next(layer for layer in phantom._painting.layers if layer.name == "thecal sac")
        v = np.arange(-40, -10, 0.05)
        axes = phantom.frame.axes(s)
        points = phantom.frame.points(phantom.frame.to_ras(0, 0, s) + v[:, None] * axes[:, 1])
        return float((sac.distance(points) < 0).sum() * 0.05)

    assert depth(healthy, 0) == pytest.approx(11 * healthy.build.sac, abs=0.1)
    # From the back of the sac to the back of the bulge, less .2 mm.
    front = float((ill._displacement.border(np.zeros(1)) - ill._displacement.reach(np.zeros(1), np.zeros(1), 2.0))[0])
    assert depth(ill, 0) == pytest.approx(front - 0.2 - (-26.5 - 5.5 * ill.build.sac), abs=0.15)
    assert depth(ill, 15) == pytest.approx(depth(healthy, 15), abs=0.06)


def test_a_root_without_room_is_flat_and_wide() -> None:
    def extent(phantom: GradedPhantom) -> tuple[float, float]:
        root = next(layer for layer in phantom._painting.layers if layer.name == "root below L5-S1")
        u, v = np.meshgrid(np.arange(-16, -3, 0.1), np.arange(-34, -15, 0.1), indexing="ij")
        points = phantom.frame.points(
            np.array([phantom.frame.to_ras(0, 0, 0)])
            + np.stack([u, v], axis=-1).reshape(-1, 2) @ phantom.frame.axes(0)[:, :2].T
        )
        inside = (root.distance(points) < 0).reshape(u.shape)
        return float(inside.any(axis=1).sum() * 0.1), float(inside.any(axis=0).sum() * 0.1)

    seeds = range(30)
    ill = min(
        (stenosed(seed, (RECESS["left"], 7.0)) for seed in seeds),
        key=lambda p: p.stenoses[RECESS["left"]].room,
    )
    wide, deep = extent(ill)
    round_wide, round_deep = extent(stenosed(ill.seed))
    assert round_wide == pytest.approx(round_deep, abs=0.3) and 5 < round_deep < 7
    assert deep < 0.75 * round_deep and wide > 1.1 * round_wide


def test_a_mirrored_phantom_swaps_the_sides() -> None:
    phantom = GradedPhantom(
        8, {RECESS["left"]: 7.0, FORAMEN["right"]: 5.0, RECESS["right"]: 0.0, FORAMEN["left"]: 0.0}
    )
    image = GradedPhantom(
        8,
        {RECESS["right"]: 7.0, FORAMEN["left"]: 5.0, RECESS["left"]: 0.0, FORAMEN["right"]: 0.0},
        mirrored=True,
    )
    assert phantom.stenoses[RECESS["left"]].grade == 2 == image.stenoses[RECESS["right"]].grade
    assert {task.mirrored: stenosis for task, stenosis in image.stenoses.items()} == phantom.stenoses
    generator = np.random.default_rng(0)
    xyz = generator.uniform(-30, 30, (400, 3))
    direct = phantom.intensity(phantom.frame.from_patient(xyz))
    mirrored = image.intensity(image.frame.from_patient(xyz * [-1, 1, 1]))
    assert np.allclose(direct, mirrored, atol=1e-4)
    assert np.abs(direct - phantom.intensity(phantom.frame.from_patient(xyz * [-1, 1, 1]))).max() > 0.2


def test_the_true_disc_lies_where_the_phantom_has_it() -> None:
    phantom = GradedPhantom(SEED)
    sagittal, aligned, straight = graded_scans(phantom)
    disc = true_disc(phantom, sagittal.planes)
    assert disc.left == pytest.approx(-phantom.frame.axes(0)[:, 0])
    assert disc.normal == pytest.approx(phantom.frame.axes(0)[:, 2])
    # Every point lies in its sagittal slice and in the disc's plane; the back is behind the front.
    crossing = [p for p in sagittal.planes if np.abs((disc.posterior - p.origin) @ p.normal).min() < 1e-6]
    assert len(crossing) == len(disc.posterior) and 2 * disc.sagittal_depth == pytest.approx(
        2 * 4.6 * len(crossing)
    )
    assert np.abs(disc.local(disc.posterior)[:, 2]).max() < 1e-6
    assert np.all(disc.local(disc.posterior)[:, 1] > disc.local(disc.anterior)[:, 1] + 5)
    assert 45 < disc.sagittal_depth < 60
    # Points on either side of the back border: annulus in front of it, fat behind it.
    middle = disc.posterior[np.argmin(np.abs(disc.local(disc.posterior)[:, 0]))]
    assert phantom.intensity(middle - 2 * disc.back) < 0.3 < phantom.intensity(middle + 3.5 * disc.back)
    # The scans are what they are called.
    for scan, low, high in ((aligned, 0, 8), (straight, 15, 50)):
        angle = np.degrees(np.arccos(scan.planes[0].normal @ disc.normal))
        assert low <= angle <= high and scan.planes[0].thickness == 4.0
    steps = [np.linalg.norm(scan.planes[1].center - scan.planes[0].center) for scan in (aligned, straight)]
    assert steps == pytest.approx([4.4, 5.0])


# ---- studies on disk -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["left", "right"])
def test_left_is_left_through_dicom_and_crop(side: str, coarse: None, tmp_path: Path) -> None:
    """A severe stenosis of one recess darkens that side of the crop: larger x is the patient's left."""
    crops = {}
    for name, phantom in {
        "ill": stenosed(SEED, (RECESS[side], 7.0)),
        "healthy": stenosed(SEED),
        "mirrored": stenosed(SEED, (RECESS["right" if side == "left" else "left"], 7.0), mirrored=True),
    }.items():
        write_rsna_study(tmp_path / name, "7", phantom)
        graded_cohort._write_tables(tmp_path / name, ["7"])
        study = RsnaDataset(tmp_path / name).study("7")
        disc = read_discs(tmp_path / name / "discs" / "7.json")["L5/S1"]
        found = [acquired_input(disc, stack) for stack in study.axial]
        crops[name] = {images.input_type: images for images in found}
        assert set(crops[name]) == {"A", "N"} and max(images.outside for images in found) < 0.12
    columns = {"left": slice(124, 146), "right": slice(78, 100)}  # 5 to 15 mm beside the middle
    for name in ("ill", "mirrored"):
        change = crops[name]["A"].images - crops["healthy"]["A"].images
        middle = change[crops["healthy"]["A"].mask][2]
        worst = {each: middle[54:78, columns[each]].mean() for each in columns}
        sick = side if name == "ill" else ("right" if side == "left" else "left")
        well = "right" if sick == "left" else "left"
        assert worst[sick] < -0.03
        if name == "ill":
            assert abs(worst[well]) < 0.3 * abs(worst[sick])


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_foramen_is_narrow_on_its_side_of_sagittal_t1(
    side: str, coarse: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From DICOM in the RSNA layout through `grade prepare`: fat is lost there; on the other side of a mirror image."""
    monkeypatch.setattr(graded_cohort, "SAGITTAL_PIXEL", 1.6)
    monkeypatch.setattr(graded_cohort, "SAGITTAL_FIELD", (44, 44))
    monkeypatch.setenv("GAUSSIANMRI_PATIENT_KEY", str(tmp_path / "key"))
    (tmp_path / "key").write_text("0" * 64)
    other = "right" if side == "left" else "left"
    data, bodies = tmp_path / "data", (
        stenosed(SEED), stenosed(SEED, (FORAMEN[side], 6.0)), stenosed(SEED, (FORAMEN[other], 6.0), mirrored=True)
    )  # fmt: skip
    for n, phantom in enumerate(bodies):
        write_rsna_study(data, f"{n}", phantom, paired=False, sagittal_t1=True)
    graded_cohort._write_tables(data, ["0", "1", "2"])
    where: dict[str, Any] = {"levels": ("L5/S1",), "region": RegionOptions(width=64), "discs": str(data / "discs")}
    options = PrepareOptions(types=("S-T1", "S-T2"), **where)
    crops, report = prepare(data, tmp_path / "inputs", options, splits=dict.fromkeys("012", "train"), workers=1)
    assert not report.failed and [(case.study_id, case.input_type) for case in crops] == [
        (study, kind) for study in "012" for kind in ("S-T1", "S-T2")
    ]
    assert [case.grades[FORAMEN[side].name] for case in crops.chosen(input_types=["S-T1"])] == [
        GRADES[body.stenoses[FORAMEN[side]].label] for body in bodies
    ]
    healthy, ill, mirror = (crops.images(case)[0].astype(float) for case in crops.chosen(input_types=["S-T1"]))
    slots = {"left": slice(7, 9), "right": slice(0, 2)}  # 18 and 24 mm from the midline
    foramen = slice(46, 66), slice(102, 122)  # 3 mm around the back of the disc
    assert (ill - healthy)[(slots[side], *foramen)].mean() < -0.03
    assert np.abs((ill - healthy)[(slots[other], *foramen)]).mean() < 0.02
    change = mirror - healthy[::-1]  # slices run from the right to the left
    assert change[(slots[other], *foramen)].mean() < min(-0.02, change[(slots[side], *foramen)].mean() - 0.01)
    study = RsnaDataset(data).study("1")
    assert study.problems == [] and study.sagittal_t1 is not None and study.sagittal_t2 is not None
    assert np.array_equal(study.sagittal_t1.ijk_to_ras, study.sagittal_t2.ijk_to_ras)
    # As a whole study shows them to a network.
    disc = read_discs(data / "discs" / "1.json")["L5/S1"]
    made, _ = study_inputs(disc, [], {"S-T1": study.sagittal_t1}, options=options)
    assert np.array_equal(made["S-T1"].images.astype(np.float16), ill.astype(np.float16))


def test_a_cohort_with_t1_has_the_same_t2(coarse: None, tmp_path: Path) -> None:
    """Images, discs and grades; and one without T1, begun before there was any, goes on."""
    for name, t1 in (("with", True), ("without", False)):
        write_rsna_cohort(tmp_path / name, 1, seed=3, unpaired=1, sagittal_t1=t1, workers=1)
    study = "100300000"
    pictures = {name: sorted((tmp_path / name / "train_images" / study).glob("*/*")) for name in ("with", "without")}
    t1 = [path for path in pictures["with"] if path.parent.name == f"{study}2"]
    assert len(t1) == 13 and len(pictures["with"]) == len(pictures["without"]) + 13
    for path in pictures["without"]:
        assert path.read_bytes() == (tmp_path / "with" / path.relative_to(tmp_path / "without")).read_bytes()
    for name in ("train.csv", "train_label_coordinates.csv", "truth.csv", f"discs/{study}.json"):
        assert (tmp_path / "with" / name).read_text() == (tmp_path / "without" / name).read_text()
    settings = {name: (tmp_path / name / "cohort.json").read_text() for name in pictures}
    assert "sagittal_t1" in settings["with"] and "sagittal_t1" not in settings["without"]


def test_a_cohort_is_read_as_it_was_written(coarse: None, tmp_path: Path) -> None:
    report = write_rsna_cohort(tmp_path, 4, seed=2, unpaired=1, workers=1)
    assert report.failed == [] and report.done == ["100200000", "100200001", "100200002", "100200003"]
    data = RsnaDataset(tmp_path)
    assert data.studies == report.done
    with (tmp_path / "truth.csv").open(newline="") as file:
        truth = {row["study_id"]: row for row in csv.DictReader(file)}
    for number, study_id in enumerate(report.done):
        study, phantom = data.study(study_id), GradedPhantom(int(study_id))
        assert study.problems == [] and study.synthetic
        assert study.grades == {t.column("L5/S1"): GRADES[phantom.stenoses[t].label] for t in STENOSES}
        assert (
            truth[study_id]["left_subarticular_stenosis_true"]
            == GRADES[phantom.stenoses[RECESS["left"]].grade]
        )
        disc = read_discs(tmp_path / "discs" / f"{study_id}.json")["L5/S1"]
        angles = sorted(alignment_degrees(disc, stack) for stack in study.axial)
        assert len(angles) == (1 if number == 0 else 2) and angles[0] < 10 and all(a > 10 for a in angles[1:])
        assert {condition for condition, level in study.coordinates if level == "L5/S1"} == {
            t.name for t in STENOSES
        }
        for (condition, _), place in study.coordinates.items():
            marked = {"subarticular": (10, -21), "neural": (20, -17), "spinal": (0, -23)}
            beside, v = next(marked[word] for word in condition.split("_") if word in marked)
            u = -beside if condition.startswith("left") else beside
            assert np.linalg.norm(place - phantom.frame.to_ras(u, v, 0)) < 2.6  # half a slice
    numbers = [
        sorted(int(p.stem) for p in (tmp_path / "train_images" / s / f"{s}1").iterdir()) for s in data.studies
    ]
    assert numbers == [[1, 2, 3, 4, 5]] * 4


def test_a_stopped_cohort_goes_on(coarse: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    first = write_rsna_cohort(
        tmp_path, 3, workers=1, progress=lambda d, *_: done.append(d), cancelled=lambda: len(done) >= 1
    )
    assert first.cancelled and len(first.done) == 1
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("train_images/100000000/*/*")}
    second = write_rsna_cohort(tmp_path, 3, workers=1)
    assert second.resumed == 1 and len(second.done) == 3 and not second.cancelled
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("train_images/100000000/*/*")} == before
    assert not list(tmp_path.glob("train_images/.partial*"))
    assert len(RsnaDataset(tmp_path).studies) == 3
    with pytest.raises(GaussianMRIError, match="other settings"):
        write_rsna_cohort(tmp_path, 3, seed=1, workers=1)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(graded_cohort, "write_series", full)
    report = write_rsna_cohort(tmp_path, 4, workers=1)
    assert report.failed == ["100000003"] and "No space left" in report.rows["100000003"].lines[0]
    assert len(RsnaDataset(tmp_path).studies) == 3
