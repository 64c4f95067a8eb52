"""Rows with units as a table node."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import vtk


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
