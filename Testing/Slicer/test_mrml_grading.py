"""Grades tied to planes: the right side, labels that go stale, rows, crops, reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")
pytest.importorskip("monai", reason="needs MONAI, which is not installed")

import vtk  # noqa: E402
from grading_scenes import CENTER, LEVEL, disc, graded, write_study  # noqa: E402
from mrml_scenes import Database, plane_node, put_under, put_under_warp, rigid  # noqa: E402

from GaussianMRILib import GaussianMRIError, mrml  # noqa: E402
from GaussianMRILib.grading.checkpoints import NO_CHECKPOINT  # noqa: E402
from GaussianMRILib.grading.labels import DISCLAIMER, GRADES  # noqa: E402
from GaussianMRILib.mrml.grading import carry_out  # noqa: E402
from GaussianMRILib.mrml.grading_results import (  # noqa: E402
    STALE,
    VALID,
    describe_grades,
    forget_grades,
    grades_table,
    label_lines,
)

MOVE = rigid([0.1, 0.2, 1], 8, [6, -3, 4])


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a study (left grade, right grade) and puts it into Slicer's DICOM database."""

    def make(left: int, right: int, **options: Any) -> Database:
        name = "-".join(["study", str(left), str(right), *map(str, options.values())])
        database = write_study(tmp_path / name, left, right, **options)
        monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
        return database

    return make


def points(scene: Any, *places: Any, kind: str = "Fiducial") -> Any:
    node = scene.AddNewNodeByClass(f"vtkMRMLMarkups{kind}Node", "disc")
    for place in places:
        node.AddControlPoint(vtk.vtkVector3d(*np.asarray(place, float)))
    return node


def disc_points(scene: Any, borders: bool = True) -> Any:
    across, along = np.array([25.0, 0, 0]), np.array([0, 17.0, 0])
    places = [CENTER + along, CENTER - along, *([CENTER - across, CENTER + across] if borders else [])]
    return points(scene, *places)


@pytest.fixture
def graded_plane(scene: Any, study: Any, checkpoints: Path) -> Any:
    """A plane with grades (left severe, right moderate) and the volume behind them."""
    volume = study(2, 1).load(scene, name="axial")
    return mrml.grade_disc([volume], disc(), checkpoints), volume


def table_rows(scene: Any) -> list[dict[str, Any]]:
    table = grades_table(scene).GetTable()
    names = [table.GetColumnName(n) for n in range(table.GetNumberOfColumns())]
    return [{n: table.GetValueByName(r, n) for n in names} for r in range(table.GetNumberOfRows())]


def cells(scene: Any, column: str) -> list[str]:
    return [row[column].ToString() for row in table_rows(scene)]


# ---- left is left


@pytest.mark.parametrize("source", ["points", "plane"])
@pytest.mark.parametrize("worse", ["left", "right"])
def test_each_side_keeps_its_grade_from_dicom_to_the_label(
    scene: Any, study: Any, checkpoints: Path, worse: str, source: str
) -> None:
    grades = (2, 0) if worse == "left" else (0, 2)
    volume = study(*grades).load(scene)
    if source == "points":
        found = mrml.disc_from_points_node(disc_points(scene), LEVEL)
    else:  # drawn with its x axis to the right, to the left, or upside down: sides come from space
        flip = -1.0 if worse == "left" else 1.0
        node = plane_node(scene, CENTER, (flip, 0, 0), (0, 1, 0), (100, 50))
        found = mrml.disc_from_plane_node(node, LEVEL)
    plane = mrml.grade_disc([volume], found, checkpoints, input_type="acquired")
    other = "right" if worse == "left" else "left"
    assert graded(mrml.grades_of(plane)) == {worse: "Severe", other: "Normal/Mild"}
    label = plane.GetNthControlPointLabel(0)
    assert f"L5/S1 {worse} subarticular: severe" in label
    assert f"L5/S1 {other} subarticular: normal/mild" in label


def test_a_mirrored_anatomy_swaps_the_grades(scene: Any, study: Any, checkpoints: Path) -> None:
    straight = study(2, 1).load(scene, name="straight")
    found = graded(mrml.grades_of(mrml.grade_disc([straight], disc(), checkpoints)))
    mirrored = study(2, 1, mirrored=True).load(scene, name="mirrored")
    swapped = graded(mrml.grades_of(mrml.grade_disc([mirrored], disc(), checkpoints)))
    assert found == {"left": "Severe", "right": "Moderate"}
    assert swapped == {"left": "Moderate", "right": "Severe"}


@pytest.mark.parametrize("method", ["R-VI", "R-GS"])
def test_resampled_planes_keep_the_sides(scene: Any, study: Any, checkpoints: Path, method: str) -> None:
    volume = study(2, 0, tilt=20.0).load(scene)
    quick = {"passes": 2, "prior": "spline"} if method == "R-GS" else {}
    plane = mrml.grade_disc([volume], disc(), checkpoints, input_type=method, **quick)
    record = mrml.grades_of(plane)
    assert graded(record) == {"left": "Severe", "right": "Normal/Mild"}
    assert {grade["input_type"] for grade in record["grades"]} == {method}
    assert method in plane.GetNthControlPointLabel(0)


def test_a_bright_spot_is_on_its_side_and_at_its_place(scene: Any, study: Any) -> None:
    """DICOM to network input: the pixel of the brightest spot leads back to where it was put."""
    volume = study(1, 1).load(scene)
    pixels = slicer.util.arrayFromVolume(volume)
    affine = mrml.stacks_from_volume(volume)[0].ijk_to_ras
    spot = np.add(CENTER, [-11.0, -24.0, 0])
    k = int(np.argmin(np.abs(affine[:, 2, 3] - spot[2])))
    i, j = np.rint(np.linalg.solve(affine[k, :3, :2][:2], (spot - affine[k, :3, 3])[:2])).astype(int)
    pixels[k, j - 1 : j + 2, i - 1 : i + 2] = 1300  # among 900 at most
    slicer.util.arrayFromVolumeModified(volume)
    inputs = carry_out(mrml.grading_request([volume], disc())).inputs
    window = inputs.images.reshape(9, 112, 224)
    brightest = np.argwhere(window > 0.95 * window.max())
    s, row, column = np.round(brightest.mean(axis=0)).astype(int)
    assert column > 112  # columns run to the patient's left
    found = (inputs.planes[s].ijk_to_ras @ [column, row, 0, 1])[:3]
    assert np.linalg.norm((found - spot)[:2]) < 1.0


# ---- discs


def test_points_are_told_apart_by_where_they_lie(scene: Any) -> None:
    across, along = np.array([24.0, 2, 0]), np.array([0, 16.0, 3.0])
    expected = mrml.disc_from_points_node(
        points(scene, CENTER + along, CENTER - along, CENTER - across, CENTER + across), LEVEL
    )
    assert expected.left[0] < -0.9 and expected.back[1] < -0.9 and expected.normal[2] > 0.9
    turned = points(scene, CENTER - along, CENTER + along, CENTER + across, CENTER - across)
    np.testing.assert_allclose(mrml.disc_from_points_node(turned, LEVEL).frame, expected.frame, atol=1e-9)
    lines = [
        points(scene, CENTER - along, CENTER + along, kind="Line"),
        points(scene, CENTER + across, CENTER - across, kind="Line"),
    ]
    np.testing.assert_allclose(mrml.disc_from_points_node(lines, LEVEL).frame, expected.frame, atol=1e-9)
    put_under(scene, turned, MOVE)
    moved = mrml.disc_from_points_node(turned, LEVEL)
    np.testing.assert_allclose(moved.center, MOVE[:3, :3] @ expected.center + MOVE[:3, 3], atol=1e-6)


def test_a_segment_makes_the_disc(scene: Any) -> None:
    from test_mrml_segments import CENTER as MIDDLE
    from test_mrml_segments import paint, segmentation

    node = segmentation(scene)
    paint(node, "disc", lambda x: ((x / [24, 16, 5]) ** 2).sum(axis=-1) <= 1)
    found = mrml.disc_from_segment_node(node, "disc", "L4/L5")
    assert found.level == "L4/L5" and np.linalg.norm(found.center - MIDDLE) < 1.0
    # Left is along the voxels, which lie turned by some degrees.
    assert found.normal[2] > np.cos(np.deg2rad(2.0)) and found.left[0] < -0.97
    put_under(scene, node, MOVE)
    moved = mrml.disc_from_segment_node(node, "disc", "L4/L5")
    np.testing.assert_allclose(moved.center, MOVE[:3, :3] @ found.center + MOVE[:3, 3], atol=0.6)


def test_a_graded_plane_knows_its_disc_wherever_it_goes(scene: Any, graded_plane: Any) -> None:
    plane, _ = graded_plane
    np.testing.assert_allclose(mrml.disc_from_plane_node(plane, LEVEL).frame, disc().frame, atol=1e-9)
    put_under(scene, plane, MOVE)
    moved = mrml.disc_from_plane_node(plane, LEVEL)
    np.testing.assert_allclose(moved.frame, MOVE @ disc().frame, atol=1e-6)
    np.testing.assert_allclose(moved.posterior, disc().posterior @ MOVE[:3, :3].T + MOVE[:3, 3], atol=1e-6)
    # One that was only placed has its disc in the middle.
    other = plane_node(scene, CENTER, (1, 0, 0), (0, 1, 0), (80, 40))
    np.testing.assert_allclose(mrml.disc_from_plane_node(other, LEVEL).center, CENTER, atol=1e-6)


def test_what_is_no_disc_is_refused(scene: Any) -> None:
    for call, message in (
        (lambda: mrml.disc_from_points_node(points(scene, CENTER), LEVEL), "two points .* or four"),
        (lambda: mrml.disc_from_points_node(None, LEVEL), "got NoneType"),
        (lambda: mrml.disc_from_points_node(disc_points(scene, False), "S1/S2"), "S1/S2"),
        (lambda: mrml.disc_from_plane_node(disc_points(scene), LEVEL), "markups plane is needed"),
    ):
        with pytest.raises(GaussianMRIError, match=message):
            call()


# ---- what is shown


def test_everything_that_must_be_shown_is(scene: Any, graded_plane: Any, checkpoints: Path) -> None:
    import hashlib

    plane, volume = graded_plane
    label, text = plane.GetNthControlPointLabel(0), describe_grades(plane)
    hashes = [hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(checkpoints.iterdir())]
    for part in (DISCLAIMER, "SYNTHETIC", "not calibrated", "0% outside the scan"):
        assert part in label
    for part in (
        DISCLAIMER,
        "SYNTHETIC: nine drawings of a spine",
        "Input type: A",
        *hashes,
        "not calibrated",
    ):
        assert part in text
    rows = table_rows(scene)
    assert len(rows) == 2
    for row, side, grade, digest in zip(rows, ("left", "right"), ("Severe", "Moderate"), hashes, strict=True):
        shown = {name: row[name].ToString() for name in row}
        assert (shown["Side"], shown["Grade"], shown["Checkpoint"]) == (side, grade, digest)
        assert shown["Plane ID"] == plane.GetID() and shown["Status"] == "valid"
        assert (
            shown["Data"] == "SYNTHETIC" and DISCLAIMER in shown["Notice"] and "calibrated" in shown["Notice"]
        )
        p = [row[f"P {name}"].ToDouble() for name in GRADES]
        assert sum(p) == pytest.approx(1, abs=1e-4) and GRADES[int(np.argmax(p))] == grade
    table = grades_table(scene)
    assert table.GetNthNodeReference("GaussianMRI.Plane", 0) is plane
    assert plane.GetNodeReference("GaussianMRI.Table") is table
    assert plane.GetNodeReference("GaussianMRI.Source") is volume
    record = json.loads(plane.GetAttribute("GaussianMRI.Grades"))
    assert [grade["side"] for grade in record["grades"]] == ["left", "right"]
    assert record["grades"][0]["calibrated"] is False
    record["grades"][0]["calibrated"] = True
    assert any(line.endswith(", not calibrated") for line in label_lines(record))  # as long as one of them is not
    record["grades"][1]["calibrated"] = True
    assert any(line.endswith("scan, calibrated") for line in label_lines(record))


def test_networks_that_one_disc_cannot_be_shown_to_are_named(
    scene: Any, study: Any, checkpoints: Path, tmp_path: Path
) -> None:
    from dataclasses import replace

    from GaussianMRILib.grading.labels import SAGITTAL_TYPES
    from GaussianMRILib.grading.model_card import load_grader

    axial = load_grader(checkpoints / "left.pt")
    seen = replace(axial, card=replace(axial.card, input_types=SAGITTAL_TYPES[:1]), name="foramina.pt")
    volume = study(0, 2).load(scene)
    plane = mrml.grade_disc([volume], disc(), [axial, seen])
    assert len(graded(mrml.grades_of(plane))) == 1
    assert "Not asked, as they grade sagittal slices: foramina.pt." in describe_grades(plane)
    assert "Not asked" not in describe_grades(mrml.grade_disc([volume], disc(), axial))


def test_the_crops_are_in_place(scene: Any, graded_plane: Any) -> None:
    plane, volume = graded_plane
    crops = plane.GetNodeReference("GaussianMRI.Crops")
    pixels = slicer.util.arrayFromVolume(crops)
    assert pixels.shape == (9, 112, 224) and 0 <= pixels.min() and pixels.max() <= 1
    (cropped,) = mrml.stacks_from_volume(crops, poses="volume")
    (scan,) = mrml.stacks_from_volume(volume)
    # The same place has the same intensity, but for the scale: half of the vertebrae's median.
    middle = cropped.plane(4)
    k = int(np.argmin(np.abs(scan.positions - middle.center @ scan.normal * np.sign(scan.normal[2]))))
    inverse = np.linalg.inv(scan.ijk_to_ras[k])
    for row, column in ((30, 60), (56, 112), (80, 160), (40, 200)):
        at = inverse @ [*middle.points()[row, column], 1]
        assert abs(at[2]) < 1e-3
        near = scan.pixels[k, round(at[1]), round(at[0])]
        assert pixels[4, row, column] == pytest.approx(near / 450 * 0.25, abs=0.06)
    assert crops.GetDisplayNode().GetWindow() == pytest.approx(1.0)


def test_without_a_checkpoint_there_is_no_grade(scene: Any, study: Any, tmp_path: Path) -> None:
    volume = study(0, 0).load(scene)
    before = scene.GetNumberOfNodes()
    (tmp_path / "empty").mkdir()
    for nothing in ((), "", tmp_path / "none.pt", tmp_path / "empty"):
        with pytest.raises(GaussianMRIError, match="gaussianmri grade train"):
            mrml.grade_disc([volume], disc(), nothing)
    assert "none comes with this software" in NO_CHECKPOINT
    assert carry_out(mrml.grading_request([volume], disc())).grades == ()
    assert scene.GetNumberOfNodes() == before and grades_table(scene) is None


def test_what_does_not_fit_leaves_the_scene_as_it_was(
    scene: Any, study: Any, checkpoints: Path, tmp_path: Path
) -> None:
    import shutil

    volume = study(0, 0).load(scene)
    before = scene.GetNumberOfNodes()
    twice = tmp_path / "twice"
    shutil.copytree(checkpoints, twice)
    shutil.copy(twice / "left.pt", twice / "again.pt")
    (tmp_path / "broken.pt").write_bytes((checkpoints / "left.pt").read_bytes()[:5000])
    far = mrml.disc_from_points_node(
        points(scene, np.add(CENTER, [0, 17, 300]), np.add(CENTER, [0, -17, 300])), LEVEL
    )
    other_level = mrml.disc_from_points_node(disc_points(scene), "L3/L4")
    before = scene.GetNumberOfNodes()
    for call, message in (
        (lambda: mrml.grade_disc([volume], disc(), twice), "both grade left subarticular"),
        (lambda: mrml.grade_disc([volume], disc(), tmp_path / "broken.pt"), "broken.pt"),
        (lambda: mrml.grade_disc([volume], disc(), checkpoints, input_type="R-XX"), "no input 'R-XX'"),
        (lambda: mrml.grade_disc([], disc(), checkpoints), "no volume to grade"),
        (lambda: mrml.grade_disc([volume], far, checkpoints), "no slice lies within|nearest"),
        (lambda: mrml.grade_disc([volume], other_level, checkpoints), "cannot grade L3/L4"),
        (lambda: mrml.grade_disc([volume], disc(), checkpoints, plane_node=volume), "markups plane"),
    ):
        with pytest.raises(GaussianMRIError, match=message):
            call()
    assert scene.GetNumberOfNodes() == before


def test_a_users_plane_is_labelled_where_it_lies_and_graded_again(
    scene: Any, study: Any, checkpoints: Path
) -> None:
    node = plane_node(scene, np.add(CENTER, [0, -17, 0]), (1, 0, 0), (0, 1, 0), (100, 50))
    corners = np.array(mrml.plane_from_node(node).corners())
    first = study(2, 0).load(scene, name="first")
    assert mrml.grade_disc([first], disc(), checkpoints, plane_node=node) is node
    np.testing.assert_allclose(mrml.plane_from_node(node).corners(), corners)
    crops = node.GetNodeReference("GaussianMRI.Crops")
    second = study(0, 2).load(scene, name="second")
    mrml.grade_disc([second], disc(), checkpoints, plane_node=node)
    assert crops.GetScene() is None  # the earlier grading is gone
    assert cells(scene, "Grade") == ["Normal/Mild", "Severe"]
    assert node.GetNumberOfNodeReferences("GaussianMRI.Source") == 1
    forget_grades(node)
    assert mrml.grades_of(node) is None and not table_rows(scene) and node.GetScene() is scene
    assert "subarticular" not in node.GetNthControlPointLabel(0)


# ---- stale labels


def colour(plane: Any) -> tuple[float, ...]:
    return tuple(plane.GetDisplayNode().GetSelectedColor())


@pytest.fixture
def watcher(scene: Any) -> Any:
    made = mrml.GradeWatcher(scene)
    yield made
    made.stop()


def test_a_moved_plane_is_stale_and_put_back_is_not(scene: Any, watcher: Any, graded_plane: Any) -> None:
    plane, _ = graded_plane
    center = np.array(plane.GetCenter())
    assert mrml.staleness(plane) == "" and colour(plane) == VALID
    plane.SetCenter(np.add(center, [0, 0, 0.5]))
    assert plane.GetNthControlPointLabel(0).startswith("STALE: L5/S1 left subarticular")
    assert plane.GetNthControlPointLabel(0).count("STALE") == 2  # every grade
    assert "(the plane was moved)" in plane.GetNthControlPointLabel(0)
    assert colour(plane) == STALE and cells(scene, "Status") == ["stale: the plane was moved"] * 2
    assert describe_grades(plane).startswith("STALE: the plane was moved")
    plane.SetCenter(center)
    assert "STALE" not in plane.GetNthControlPointLabel(0) and colour(plane) == VALID
    assert cells(scene, "Status") == ["valid"] * 2
    transform = put_under(scene, plane, rigid([0, 0, 1], 2, [0, 0, 0]))
    assert mrml.staleness(plane) == "the plane was moved" and colour(plane) == STALE
    transform.SetMatrixTransformToParent(vtk.vtkMatrix4x4())
    assert colour(plane) == VALID
    plane.SetSize(plane.GetSize()[0] * 1.1, plane.GetSize()[1])
    assert colour(plane) == STALE


def test_a_volume_that_changes_or_moves_makes_grades_stale(
    scene: Any, watcher: Any, graded_plane: Any
) -> None:
    plane, volume = graded_plane
    pixels = slicer.util.arrayFromVolume(volume)
    before = pixels[3, 4, 5]
    pixels[3, 4, 5] += 1
    slicer.util.arrayFromVolumeModified(volume)
    assert cells(scene, "Status")[0] == "stale: the graded volume was changed" and colour(plane) == STALE
    pixels[3, 4, 5] = before
    slicer.util.arrayFromVolumeModified(volume)
    assert cells(scene, "Status")[0] == "valid"
    transform = put_under(scene, volume, rigid([0, 0, 1], 0, [0, 0.5, 0]))
    assert cells(scene, "Status")[0] == "stale: the graded volume was moved"
    volume.SetAndObserveTransformNodeID(None)
    assert cells(scene, "Status")[0] == "valid"
    scene.RemoveNode(transform)
    origin = volume.GetOrigin()
    volume.SetOrigin(origin[0] + 0.3, *origin[1:])
    assert cells(scene, "Status")[0] == "stale: the graded volume was moved"
    volume.SetOrigin(*origin)
    scene.RemoveNode(volume)
    assert cells(scene, "Status")[0] == "stale: the graded volume is gone"
    assert "(the graded volume is gone)" in plane.GetNthControlPointLabel(0)


def test_what_changes_during_the_grading_makes_its_grades_stale(scene: Any, study: Any, checkpoints: Path) -> None:
    volume = study(2, 1).load(scene, name="axial")
    middle = np.add(CENTER, [0, -17, 0])
    plane = plane_node(scene, middle, (1, 0, 0), (0, 1, 0), (100, 50))

    def brighten() -> None:
        slicer.util.arrayFromVolume(volume)[3, 4, 5] += 1
        slicer.util.arrayFromVolumeModified(volume)

    for change, stale in (
        (lambda: None, ""),
        (brighten, "the graded volume was changed"),
        (lambda: plane.SetCenter(*(middle + 1)), "the plane was moved"),
        (lambda: put_under_warp(scene, volume), "the graded volume was changed"),
    ):
        left = [change]
        mrml.grade_disc(
            [volume], disc(), checkpoints, plane_node=plane, report=lambda *_: [left.pop()() for _ in left[:1]]  # noqa: B023
        )
        assert mrml.staleness(plane) == stale
    volume.SetAndObserveTransformNodeID(None)  # back where it was graded
    assert mrml.staleness(plane) == ""


def test_rows_of_a_removed_plane_say_so(scene: Any, watcher: Any, graded_plane: Any) -> None:
    plane, _ = graded_plane
    plane.SetName("renamed")
    assert cells(scene, "Plane") == ["renamed"] * 2
    scene.RemoveNode(plane)
    assert cells(scene, "Status") == ["stale: the plane was removed"] * 2


def test_a_loaded_scene_keeps_labels_references_and_the_check(
    scene: Any, host: Any, graded_plane: Any, tmp_path: Path
) -> None:
    plane, volume = graded_plane
    record, label = mrml.grades_of(plane), plane.GetNthControlPointLabel(0)
    host.save(tmp_path / "graded.mrb")
    host.close()
    host.load(tmp_path / "graded.mrb")
    plane = scene.GetFirstNodeByClass("vtkMRMLMarkupsPlaneNode")
    watcher = mrml.GradeWatcher(scene)
    try:
        assert mrml.grades_of(plane) == record and plane.GetNthControlPointLabel(0) == label
        assert mrml.staleness(plane) == "" and colour(plane) == VALID
        volume = plane.GetNodeReference("GaussianMRI.Source")
        assert volume.GetName() == "axial"
        assert plane.GetNodeReference("GaussianMRI.Table") is grades_table(scene)
        assert cells(scene, "Plane ID") == [plane.GetID()] * 2 and cells(scene, "Status") == ["valid"] * 2
        assert plane.GetNodeReference("GaussianMRI.Crops") is not None
        volume.SetOrigin(*np.add(np.array(volume.GetOrigin()), [1, 0, 0]))
        assert cells(scene, "Status") == ["stale: the graded volume was moved"] * 2
    finally:
        watcher.stop()


# ---- report


def test_the_report_has_the_plane_in_the_scanners_frame(
    scene: Any, study: Any, graded_plane: Any, tmp_path: Path
) -> None:
    highdicom = pytest.importorskip("highdicom", reason="needs highdicom, which is not installed")
    plane, volume = graded_plane
    path = mrml.export_structured_report(plane, tmp_path / "grades.dcm")
    report = highdicom.sr.srread(path)
    header = next(iter(slicer.dicomDatabase.headers.values()))
    assert report.StudyInstanceUID == header.StudyInstanceUID and report.PreliminaryFlag == "PRELIMINARY"
    outline, *grades = report.content.get_planar_roi_measurement_groups()
    corners = outline.roi.value * [-1, -1, 1]
    for corner in mrml.plane_from_node(plane).corners():
        assert np.linalg.norm(corners - corner, axis=1).min() < 1e-3
    assert [group.tracking_identifier for group in grades] == [
        g["text"] for g in mrml.grades_of(plane)["grades"]
    ]
    volume.SetOrigin(*np.add(np.array(volume.GetOrigin()), [1, 0, 0]))
    with pytest.raises(GaussianMRIError, match="stale: the graded volume was moved"):
        mrml.export_structured_report(plane, path)
    with pytest.raises(GaussianMRIError, match="has no grades"):
        mrml.export_structured_report(plane_node(scene, CENTER, (1, 0, 0), (0, 1, 0)), path)


def test_without_dicom_there_is_no_report(scene: Any, study: Any, checkpoints: Path, tmp_path: Path) -> None:
    pytest.importorskip("highdicom", reason="needs highdicom, which is not installed")
    volume = study(0, 1).load(scene)
    volume.RemoveAttribute("DICOM.instanceUIDs")
    plane = mrml.grade_disc([volume], disc(), checkpoints)
    with pytest.raises(GaussianMRIError, match="not loaded from DICOM"):
        mrml.export_structured_report(plane, tmp_path / "grades.dcm")
    moved = study(1, 0).load(scene)
    put_under(scene, moved, rigid([0, 0, 1], 0, [0, 0, 2.0]))
    shifted = mrml.disc_from_points_node(
        points(scene, np.add(CENTER, [0, 17, 2]), np.add(CENTER, [0, -17, 2])), LEVEL
    )
    plane = mrml.grade_disc([moved], shifted, checkpoints)
    with pytest.raises(GaussianMRIError, match=r"out of its DICOM frame|does not lie where"):
        mrml.export_structured_report(plane, tmp_path / "grades.dcm")
    assert not list(tmp_path.glob("*.dcm"))
