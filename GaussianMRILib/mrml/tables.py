"""Rows with units as a table node."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import vtk

from .grading_state import SOURCE_ROLE
from .labels import SEGMENTATION_ROLE
from .scene import PREFIX, all_or_nothing, place_beside, scene_of

_KIND = PREFIX + "Kind"


def fill_table(
    node: Any, rows: Sequence[Mapping[str, str]], descriptions: Sequence[str], *, numbers: Collection[str] = ()
) -> None:
    """Put rows of text into a table node; a column whose title has a unit, "area (mm²)", holds numbers, blanks as NaN.

    Args:
        node: vtkMRMLTableNode.
        rows: at least one, all with the same titles in the same order.
        descriptions: of the columns.
        numbers: titles of further columns of numbers, without a unit.
    """
    table = vtk.vtkTable()
    titles = list(rows[0])
    for title in titles:
        name, _, unit = title.partition(" (")
        as_numbers = bool(unit) or title in numbers
        column: Any = vtk.vtkDoubleArray() if as_numbers else vtk.vtkStringArray()
        column.SetName(name)
        for row in rows:
            column.InsertNextValue(float(row[title] or "nan") if as_numbers else row[title])
        table.AddColumn(column)
    node.SetAndObserveTable(table)
    for title, description in zip(titles, descriptions, strict=True):
        name, _, unit = title.partition(" (")
        node.SetColumnDescription(name, description)
        node.SetColumnTitle(name, title)
        if unit:
            node.SetColumnUnitLabel(name, unit.rstrip(")"))
    node.SetUseColumnTitleAsColumnHeader(True)


def segmentation_table(
    segmentation: Any,
    name: str,
    rows: Sequence[Mapping[str, str]],
    descriptions: Sequence[str],
    lines: Sequence[str],
    *,
    kind: str | None = None,
    numbers: Collection[str] = (),
    volumes: Sequence[Any] = (),
    scene: Any = None,
) -> Any:
    """A new table node of what was found in a segmentation, which undo takes back.

    Args:
        name: what is added to the segmentation's name.
        rows, descriptions, numbers: see `fill_table`.
        lines: of the node's description.
        kind: of the table, for whom looks for it; default: `name`.
        volumes: that it is of as well.
    """
    scene = scene_of(segmentation, scene=scene)
    with all_or_nothing(scene, undo=True) as added:
        title = scene.GenerateUniqueName(f"{segmentation.GetName()} {name}")
        node = scene.AddNewNodeByClass("vtkMRMLTableNode", title)
        added.append(node)
        node.SetAttribute(_KIND, kind or name)
        node.SetNodeReferenceID(SEGMENTATION_ROLE, segmentation.GetID())
        for volume in volumes:
            node.AddNodeReferenceID(SOURCE_ROLE, volume.GetID())
        fill_table(node, rows, descriptions, numbers=numbers)
        node.SetDescription("\n".join(lines))
        place_beside(node, segmentation)
    return node
