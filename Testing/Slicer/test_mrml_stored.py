"""What a scene's file says is checked: damaged attributes are ignored, with a default, or told."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")

from mrml_scenes import bright_point  # noqa: E402

from GaussianMRILib import GaussianMRIError, ImagePlane, mrml  # noqa: E402
from GaussianMRILib.grading.labels import DISCLAIMER  # noqa: E402
from GaussianMRILib.mrml.grading_results import (  # noqa: E402
    COLUMNS,
    describe_grades,
    forget_grades,
    grades_table,
    update_label,
)
from GaussianMRILib.mrml.preview import end_saved_previews  # noqa: E402
from GaussianMRILib.mrml.scene import as_array  # noqa: E402
from GaussianMRILib.mrml.views import composite_of, keep_view  # noqa: E402
from GaussianMRILib.mrml.volumes import planes_of_volume  # noqa: E402

NOT_THAT = [None, True, 3, "text", [], {}, [1, "x"], float("nan"), 10**400]


def damaged(text: str) -> list[str]:
    """A JSON object's text cut short, of other kinds, and with each of its values missing or of another kind."""
    whole = json.loads(text)
    found = ["", "{", text[:-3], "null", "[]", "7", '"a"', "[" * 100_000]
    for name in whole:
        found.append(json.dumps({key: value for key, value in whole.items() if key != name}))
        found += [json.dumps({**whole, name: value}) for value in NOT_THAT]
    return found


def test_a_view_of_a_damaged_file_has_slicers_defaults_and_its_volume(scene: Any, view: Any) -> None:
    volume = bright_point(scene)
    composite = composite_of(view)
    composite.SetBackgroundVolumeID(volume.GetID())
    view.SetDefaultOrientation("Axial")  # as Slicer's layouts do
    view.SetOrientation("Coronal")
    keep_view(view)
    text = view.GetAttribute("GaussianMRI.ViewBefore")
    for case in [*damaged(text), text.replace("1.0", "0.0")]:
        view.SetAttribute("GaussianMRI.ViewBefore", case)
        view.SetOrientation("Sagittal")
        view.SetSliceVisible(True)
        view.SetSliceSpacingModeToPrescribed()
        composite.SetBackgroundVolumeID(None)
        composite.SetNodeReferenceID("GaussianMRI.BeforeBackground", volume.GetID())
        end_saved_previews(scene)
        assert view.GetAttribute("GaussianMRI.ViewBefore") is None
        assert composite.GetBackgroundVolumeID() == volume.GetID()
        matrix = as_array(view.GetSliceToRAS())
        assert np.isfinite(matrix).all() and abs(np.linalg.det(matrix)) > 0.5
        assert view.GetModifiedEventPending() == 0 and not view.GetDisableModifiedEvent()
        if case in ("", "{", "null"):
            assert view.GetOrientationString() == view.GetDefaultOrientation()
            assert not view.GetSliceVisible() and view.GetSliceSpacingMode() == view.AutomaticSliceSpacingMode


def test_a_markup_of_a_damaged_file_is_drawn(scene: Any, view: Any) -> None:
    node = mrml.plane_to_node(ImagePlane(np.eye(4), (10, 10)), scene=scene)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    for text, views in (("nonsense ###", ()), (f"x {view.GetID()}", (view.GetID(),)), ("", ())):
        display.SetAttribute("GaussianMRI.ViewsBefore", text)
        display.SetAttribute("GaussianMRI.FillBefore", "{")
        display.SetViewNodeIDs([view.GetID()])
        end_saved_previews(scene)
        assert tuple(display.GetViewNodeIDs()) == views and display.IsDisplayableInView(view.GetID())
        assert display.GetAttribute("GaussianMRI.ViewsBefore") is None


def test_a_damaged_thickness_is_none(scene: Any) -> None:
    volume = bright_point(scene)
    for text, thickness in (("thick", 0.0), ("nan", 0.0), ("-3", 0.0), ("2.5", 2.5)):
        volume.SetAttribute("GaussianMRI.SliceThickness", text)
        assert planes_of_volume(volume)[0].thickness == thickness


def test_a_damaged_field_is_told(scene: Any) -> None:
    from test_mrml_fields import random_field

    node = mrml.field_to_model(random_field(), scene=scene)
    text = node.GetPolyData().GetFieldData().GetAbstractArray("header")
    whole = text.GetValue(0)
    told = 0
    for case in damaged(whole):
        text.SetValue(0, case)
        try:
            mrml.field_from_model(node)
        except GaussianMRIError:
            told += 1
    assert told > len(damaged(whole)) / 2
    text.SetValue(0, whole)
    mrml.field_from_model(node)


RECORD = {
    "key": "k", "level": "L4/L5", "fit": {"name": "f", "volumes": ["scan"]}, "not_asked": ["n.pt"],
    "grades": [
        {
            "text": "L4/L5 left: Severe", "side": "left", "condition": "subarticular_stenosis", "input_type": "A",
            "notes": ["trained on a phantom"], "outside": 0.1, "calibrated": False,
        }
    ],
    "state": {"plane": [[0, 0, 0], [5, 0, 0], [0, 5, 0]], "volumes": []},
}  # fmt: skip


def test_damaged_grades_do_not_stand(scene: Any) -> None:
    plane = ImagePlane(np.eye(4), (10, 10))
    node = mrml.plane_to_node(plane, scene=scene)
    whole = json.dumps(RECORD)
    grade = json.dumps(RECORD["grades"][0])  # type: ignore[index]
    grades = [json.loads(case) for case in damaged(grade)[8:]]
    cases = damaged(whole) + [json.dumps({**RECORD, "grades": [case]}) for case in grades]
    cases += [json.dumps({**RECORD, "state": json.loads(case)}) for case in damaged(json.dumps(RECORD["state"]))[8:]]
    node.SetAttribute("GaussianMRI.Grades", whole)
    update_label(node)
    assert mrml.grades_of(node) and "Severe" in node.GetNthControlPointLabel(0)
    not_whole = 0
    for case in cases:
        node.SetNthControlPointLabel(0, "L4/L5 left: Severe")
        node.SetAttribute("GaussianMRI.Grades", case)
        update_label(node)  # nothing of it raises
        describe_grades(node)
        if mrml.grades_of(node) is None and case:
            not_whole += 1
            assert mrml.staleness(node) == "its description is damaged"
            assert node.GetNthControlPointLabel(0) == f"STALE: its description is damaged\n{DISCLAIMER}"
            assert describe_grades(node) == "STALE: its description is damaged. Grade again."
    assert not_whole > len(cases) / 2
    node.SetAttribute("GaussianMRI.Grades", "{")
    forget_grades(node)
    assert node.GetNthControlPointLabel(0) == node.GetName() and describe_grades(node) == ""


def test_a_table_of_grades_without_a_column_is_left_alone(scene: Any) -> None:
    node = mrml.plane_to_node(ImagePlane(np.eye(4), (10, 10)), scene=scene)
    node.SetAttribute("GaussianMRI.Grades", json.dumps(RECORD))
    table = scene.AddNewNodeByClass("vtkMRMLTableNode")
    table.SetAttribute("GaussianMRI.Kind", "grades")
    for name, _ in COLUMNS:
        table.AddColumn().SetName(name)
    table.AddEmptyRow()
    node.SetNodeReferenceID("GaussianMRI.Table", table.GetID())
    assert grades_table(scene) is table
    table.RemoveColumn(len(COLUMNS) - 1)
    assert grades_table(scene) is None
    update_label(node)
    watcher = mrml.GradeWatcher(scene)
    watcher.stop()
    forget_grades(node)
