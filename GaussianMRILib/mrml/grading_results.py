"""Grades in the scene: labels on a markups plane, rows of a table, the crops as a volume."""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import vtk

from ..errors import GaussianMRIError
from ..grading.labels import DISCLAIMER
from .grading_state import GRADES_ATTRIBUTE, SOURCE_ROLE, check_plane, grades_of, place_of, staleness
from .planes import fill_plane_node
from .scene import PREFIX, all_or_nothing, in_scene, place_beside, scene_of
from .volume_state import states_of
from .volumes import copy_display, volume_from_images

if TYPE_CHECKING:
    from ..grading.inputs import GradingInput
    from .grading_request import GradingResult

TABLE_ROLE, CROPS_ROLE, PLANE_ROLE = PREFIX + "Table", PREFIX + "Crops", PREFIX + "Plane"
_KIND, _TABLE = PREFIX + "Kind", "grades"
#: Colours of a plane whose label stands, and of one whose label does not.
VALID, STALE = (1.0, 0.85, 0.25), (0.62, 0.62, 0.62)

#: Name and description of the table's columns; those in `_NUMBERS` hold numbers.
COLUMNS: tuple[tuple[str, str], ...] = (
    ("Plane", "Name of the markups plane."),
    ("Plane ID", "Node ID of the markups plane in this scene."),
    ("Level", "Disc."),
    ("Side", "The patient's left or right."),
    ("Condition", "What is graded."),
    ("Grade", "The most probable grade."),
    ("Status", "valid, or why the grade no longer stands."),
    ("P Normal/Mild", "Probability; the notice says whether it is calibrated."),
    ("P Moderate", "Probability; the notice says whether it is calibrated."),
    ("P Severe", "Probability; the notice says whether it is calibrated."),
    ("Input type", "A, N: acquired slices, aligned with the disc or not; R-GS, R-VI: resampled planes."),
    ("Outside", "Share of the crop outside the scan, %."),
    ("Trained on", "Training data of the network, as its checkpoint declares them."),
    ("Checkpoint", "SHA-256 of the checkpoint."),
    ("Data", "SYNTHETIC: the network was trained on a phantom."),
    ("Notice", "What this is not for."),
    ("Key", "Of the grading, in the plane's attributes."),
)
_NUMBERS = {"P Normal/Mild", "P Moderate", "P Severe", "Outside"}


def show_grades(
    result: GradingResult,
    volume_nodes: Sequence[Any],
    *,
    plane_node: Any = None,
    scene: Any = None,
    crops: bool = True,
) -> Any:
    """Put grades on a markups plane: label, JSON in its attributes, references, rows of the scene's table of grades.

    The plane's attribute `GaussianMRI.Grades` is JSON: everything in `Grade.to_dict` for each grade, the disc, how the
    images were made, and where plane and volumes were when the grading began, by which a label is known to be stale (see
    `staleness`).

    Args:
        result: with at least one grade.
        volume_nodes: that were graded; the plane refers to those in the scene.
        plane_node: the plane to label, which stays where it is; its earlier grades are replaced. Default: a new one
            on the graded region.
        scene: default: that of the nodes.
        crops: also add the graded slices as volume nodes, see `show_crops`.

    Returns:
        the plane's node.

    Raises:
        GaussianMRIError: no grade, no plane. The scene is then as it was.
    """
    if not result.grades:
        raise GaussianMRIError("There is no grade to show.")
    scene = scene_of(plane_node, *volume_nodes, scene=scene)
    if plane_node is not None:
        check_plane(plane_node)
    present = [node for node in volume_nodes if in_scene(node)]
    with all_or_nothing(scene, undo=plane_node is None) as added:
        node = plane_node
        if node is None:
            name = scene.GenerateUniqueName(f"{result.disc.level.replace('/', '-')} grade")
            node = scene.AddNewNodeByClass("vtkMRMLMarkupsPlaneNode", name)
            added.append(node)
            plane = result.region.plane()
            size = result.region.width, result.region.height
            fill_plane_node(node, plane.center, plane.i_axis, plane.j_axis, size)
            _show_quietly(node)
        else:
            forget_grades(node)
        shown = show_crops(result.inputs, present, scene, node.GetName()) if crops else []
        added += shown
        node.RemoveNodeReferenceIDs(SOURCE_ROLE)
        for volume in present:
            node.AddNodeReferenceID(SOURCE_ROLE, volume.GetID())
        for volume in shown:
            node.AddNodeReferenceID(CROPS_ROLE, volume.GetID())
        record = _record(result)
        # As they were when the grading began: what moved or changed meanwhile is not what was graded.
        plane_then = result.state.get("plane") if plane_node is not None else None
        record["state"] = {
            "plane": plane_then or place_of(node),
            "volumes": result.state.get("volumes") or states_of(present),
        }
        node.SetAttribute(GRADES_ATTRIBUTE, json.dumps(record))
        table = _table(scene, added)
        node.SetNodeReferenceID(TABLE_ROLE, table.GetID())
        table.AddNodeReferenceID(PLANE_ROLE, node.GetID())
        if present:
            place_beside(node, present[0])
            place_beside(table, present[0])
        _add_rows(table, node, record)
        update_label(node)
    return node


def _show_quietly(plane_node: Any) -> None:
    """No handles: a touch would make the label stale. Little filling and small letters: images lie beneath."""
    plane_node.CreateDefaultDisplayNodes()
    display = plane_node.GetDisplayNode()
    display.SetHandlesInteractive(False)
    display.SetFillOpacity(0.08)
    display.SetTextScale(2.2)
    display.SetGlyphScale(1.5)


def _record(result: GradingResult) -> dict[str, Any]:
    return {
        "version": 1,
        "key": uuid.uuid4().hex,
        "graded_at": datetime.datetime.now().isoformat(timespec="seconds"),
        "notice": [DISCLAIMER, *dict.fromkeys(grade.to_dict()["calibration"] for grade in result.grades)],
        "level": result.disc.level,
        "disc": result.disc.to_dict(),
        "reference_ras": result.region.reference.tolist(),
        "inputs": result.inputs.facts,
        "fit": result.fit,
        "grades": [{**grade.to_dict(), "notes": list(grade.notes)} for grade in result.grades],
        "not_asked": list(result.not_asked),
    }


def forget_grades(plane_node: Any) -> None:
    """Take grades off a plane: label, attribute, rows of the table, crops. The plane stays."""
    record, labelled = grades_of(plane_node), bool(plane_node.GetAttribute(GRADES_ATTRIBUTE))
    scene = plane_node.GetScene()
    for number in reversed(range(plane_node.GetNumberOfNodeReferences(CROPS_ROLE))):
        volume = plane_node.GetNthNodeReference(CROPS_ROLE, number)
        if volume is not None:
            scene.RemoveNode(volume)
    table = table_of(plane_node)
    if table is not None and record is not None:
        rows = table.GetTable()
        for row in reversed(range(rows.GetNumberOfRows())):
            if rows.GetValueByName(row, "Key").ToString() == record["key"]:
                table.RemoveRow(row)
        for number in reversed(range(table.GetNumberOfNodeReferences(PLANE_ROLE))):
            if table.GetNthNodeReferenceID(PLANE_ROLE, number) == plane_node.GetID():
                table.RemoveNthNodeReferenceID(PLANE_ROLE, number)
    for role in (CROPS_ROLE, TABLE_ROLE, SOURCE_ROLE):
        plane_node.RemoveNodeReferenceIDs(role)
    plane_node.RemoveAttribute(GRADES_ATTRIBUTE)
    if labelled and plane_node.GetNumberOfControlPoints():
        plane_node.SetNthControlPointLabel(0, plane_node.GetName())
        plane_node.SetNthControlPointDescription(0, "")


# ---- label ---------------------------------------------------------------------------------------------------


def label_lines(record: dict[str, Any] | None, stale: str = "") -> list[str]:
    """The lines of a plane's label: every grade, and what must stand beside it; None where the grades are damaged."""
    if record is None:
        return [f"STALE: {stale}", DISCLAIMER]
    first = record["grades"][0]
    lines = [f"{'STALE: ' if stale else ''}{grade['text']}" for grade in record["grades"]]
    lines += [f"({stale})"] if stale else []
    outside = "?" if first["outside"] is None else f"{first['outside']:.0%}"
    calibrated = "calibrated" if all(grade["calibrated"] for grade in record["grades"]) else "not calibrated"
    return [*lines, f"{first['input_type']}, {outside} outside the scan, {calibrated}", DISCLAIMER]


def describe_grades(plane_node: Any) -> str:
    """Several lines of text with everything that must be shown with the grades of a plane; "" where it has none."""
    record, stale = grades_of(plane_node), staleness(plane_node)
    lines = [f"STALE: {stale}. Grade again."] if stale else []
    if record is None:
        return "".join(lines)
    grades = record["grades"]
    lines += [grade["text"] for grade in grades]
    # What all grades share is said once.
    for note in dict.fromkeys(note for grade in grades for note in grade["notes"]):
        said = [grade for grade in grades if note in grade["notes"]]
        tasks = ", ".join(f"{grade['side']} {grade['condition'].split('_')[0]}" for grade in said)
        lines.append(note if len(said) == len(grades) else f"{note} ({tasks})")
    if record.get("fit"):
        lines.append(f"Planes by the fit '{record['fit']['name']}' of {', '.join(record['fit']['volumes'])}.")
    if record.get("not_asked"):
        names = ", ".join(record["not_asked"])
        lines.append(f"Not asked, as they grade sagittal slices: {names}. Grade all discs of a segmentation with them.")
    return "\n".join(lines)


def update_label(plane_node: Any, stale: str | None = None) -> str:
    """Write a plane's label and colour anew, and its rows in the table.

    Args:
        stale: why the label no longer stands, "" where it does; default: found out by `staleness`.

    Returns:
        `stale`.
    """
    if not plane_node.GetAttribute(GRADES_ATTRIBUTE):
        return ""
    record = grades_of(plane_node)
    if stale is None or record is None:
        stale = staleness(plane_node)
    text = "\n".join(label_lines(record, stale))
    changed = plane_node.GetNumberOfControlPoints() > 0 and plane_node.GetNthControlPointLabel(0) != text
    if changed:
        plane_node.SetNthControlPointLabel(0, text)
        for number in range(1, plane_node.GetNumberOfControlPoints()):
            plane_node.SetNthControlPointLabel(number, "")
        plane_node.SetNthControlPointDescription(0, describe_grades(plane_node))
    plane_node.CreateDefaultDisplayNodes()
    display, colour = plane_node.GetDisplayNode(), STALE if stale else VALID
    if display.GetSelectedColor() != colour:
        display.SetSelectedColor(*colour)
        display.SetColor(*colour)
    display.SetPointLabelsVisibility(True)
    display.SetPropertiesLabelVisibility(False)
    table = table_of(plane_node)
    if table is not None and record is not None:
        _mark_rows(table, record["key"], plane_node, stale)
    if changed:
        plane_node.Modified()  # a label alone is no change of the node to VTK
    return stale


# ---- table ---------------------------------------------------------------------------------------------------


def grades_table(scene: Any = None) -> Any:
    """The scene's table of grades, or None."""
    scene = scene_of(scene=scene)
    count = scene.GetNumberOfNodesByClass("vtkMRMLTableNode")
    nodes = [scene.GetNthNodeByClass(number, "vtkMRMLTableNode") for number in range(count)]
    return next((node for node in nodes if _is_whole(node)), None)


def table_of(plane_node: Any) -> Any:
    """The table with the rows of a plane, or None."""
    table = plane_node.GetNodeReference(TABLE_ROLE)
    return table if table is not None and _is_whole(table) else None


def _is_whole(table_node: Any) -> bool:
    """Whether this is a table of grades in which nobody has deleted a column."""
    table = table_node.GetTable() if table_node.GetAttribute(_KIND) == _TABLE else None
    return table is not None and all(table.GetColumnByName(name) is not None for name, _ in COLUMNS)


def _table(scene: Any, added: list[Any]) -> Any:
    node = grades_table(scene)
    if node is not None:
        return node
    node = scene.AddNewNodeByClass("vtkMRMLTableNode", scene.GenerateUniqueName("Grades"))
    added.append(node)
    node.SetAttribute(_KIND, _TABLE)
    table = vtk.vtkTable()
    for name, _ in COLUMNS:
        column: Any = vtk.vtkDoubleArray() if name in _NUMBERS else vtk.vtkStringArray()
        column.SetName(name)
        table.AddColumn(column)
    node.SetAndObserveTable(table)
    for name, description in COLUMNS:
        node.SetColumnDescription(name, description)
    node.SetColumnUnitLabel("Outside", "%")
    node.SetUseColumnTitleAsColumnHeader(True)
    node.SetColumnTitle("Outside", "Outside (%)")
    return node


def _add_rows(table_node: Any, plane_node: Any, record: dict[str, Any]) -> None:
    table = table_node.GetTable()
    for grade in record["grades"]:
        p = list(grade["probabilities"].values())
        outside = grade["outside"]
        cells = {
            "Plane": plane_node.GetName(), "Plane ID": plane_node.GetID(), "Level": grade["level"],
            "Side": grade["side"], "Condition": grade["condition"].replace("_", " "), "Grade": grade["grade"],
            "Status": "valid", "P Normal/Mild": p[0], "P Moderate": p[1], "P Severe": p[2],
            "Input type": grade["input_type"], "Outside": float("nan") if outside is None else 100 * outside,
            "Trained on": grade["trained_on"], "Checkpoint": grade["checkpoint_sha256"],
            "Data": "SYNTHETIC" if grade["synthetic"] else "", "Notice": f"{DISCLAIMER} {grade['calibration']}",
            "Key": record["key"],
        }  # fmt: skip
        for name, _ in COLUMNS:
            table.GetColumnByName(name).InsertNextValue(cells[name])
    table.Modified()
    table_node.Modified()


def _mark_rows(table_node: Any, key: str, plane_node: Any, stale: str) -> None:
    """Status, name and ID of a plane in its rows: they change when it moves, is renamed, or its scene is imported."""
    table = table_node.GetTable()
    cells = {"Status": f"stale: {stale}" if stale else "valid"}
    if plane_node is not None:
        cells |= {"Plane": plane_node.GetName(), "Plane ID": plane_node.GetID()}
    changed = False
    for row in range(table.GetNumberOfRows()):
        if table.GetValueByName(row, "Key").ToString() != key:
            continue
        for name, text in cells.items():
            column = table.GetColumnByName(name)
            if column.GetValue(row) != text:
                column.SetValue(row, text)
                changed = True
    if changed:
        table.Modified()
        table_node.Modified()


def mark_removed(table_node: Any, keys: Sequence[str]) -> None:
    """Say in a table that the planes of these gradings are gone."""
    for key in keys:
        _mark_rows(table_node, key, None, "the plane was removed")


# ---- crops ---------------------------------------------------------------------------------------------------


def show_crops(inputs: GradingInput, volume_nodes: Sequence[Any], scene: Any, name: str) -> list[Any]:
    """The slices that a network saw as scalar volume nodes, each in its place; intensities 0 to 1 as it saw them.

    Returns:
        one node; one for every slice where they are not evenly spaced.
    """
    kept = [k for k in range(len(inputs.planes)) if inputs.mask[k]]
    images, planes = [inputs.images[k] for k in kept], [inputs.planes[k] for k in kept]
    title = f"{name} {inputs.input_type} crops"
    try:
        nodes = [volume_from_images(images, planes, scene=scene, name=title)]
    except GaussianMRIError:
        nodes = [
            volume_from_images([image], [plane], scene=scene, name=f"{title} {number}")
            for number, (image, plane) in enumerate(zip(images, planes, strict=True), 1)
        ]
    for node in nodes:
        node.SetAttribute(_KIND, "crops")
        for attribute in ("OutsideFraction", "OutsideFractions"):
            node.RemoveAttribute(
                PREFIX + attribute
            )  # unknown here: what is outside the scan is 0 in the images
        copy_display(None, node)
        node.GetDisplayNode().SetAutoWindowLevel(False)
        node.GetDisplayNode().SetWindowLevelMinMax(0.0, 1.0)
        if volume_nodes:
            place_beside(node, volume_nodes[0])
    return nodes
