"""What a list of markups makes is empty: every panel lets the user place it in the views at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")
pytest.importorskip(
    "PySide6.QtWidgets", reason="needs PySide6_Essentials, which is not installed", exc_type=ImportError
)

import slicer
from mrml_scenes import bright_point

MODULES = Path(__file__).resolve().parents[2] / "GaussianMRI"


def placing() -> Any:
    """The node that is placed, or None."""
    logic = slicer.app.applicationLogic()
    interaction, selection = logic.GetInteractionNode(), logic.GetSelectionNode()
    if interaction.GetCurrentInteractionMode() != interaction.Place:
        return None
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)
    return slicer.mrmlScene.GetNodeByID(selection.GetActivePlaceNodeID())


@pytest.mark.parametrize("name", ["GaussianMRIResampling", "GaussianMRICinematic", "GaussianMRIGrading"])
def test_markups_that_a_list_makes_are_placed_next(app: Any, name: str) -> None:
    app.load_module(MODULES / name / f"{name}.py")
    panel = app.select(name)
    bright_point(app.scene)
    made = 0
    for selector in vars(panel.ui).values():
        kinds = getattr(selector, "nodeTypes", ()) if selector.className() == "qMRMLNodeComboBox" else ()
        for kind in (kind for kind in kinds if selector.addEnabled and kind.startswith("vtkMRMLMarkups")):
            app.choose(selector, f"Create new {selector.nodeTypeLabel(kind)}")
            app.process()
            node = selector.currentNode()
            assert placing() is node and node.GetDisplayNode() is not None, selector.objectName
            made += 1
    assert made >= 2
    assert not app.messages


def test_a_region_and_a_cut_that_are_still_empty_are_no_error(app: Any) -> None:
    app.load_module(MODULES / "GaussianMRICinematic" / "GaussianMRICinematic.py")
    panel = app.select("GaussianMRICinematic")
    panel.parameters.inputVolume = bright_point(app.scene)
    app.process()
    app.choose(panel.ui.regionSelector, "Create new ROI")
    app.wait(0.2)
    region = panel.parameters.region
    assert not app.messages and placing() is region and region.GetDisplayNode().GetHandlesInteractive()
    app.choose(panel.ui.planeSelector, "Create new Plane")
    app.wait(0.2)
    assert not app.messages and placing() is panel.parameters.plane
    assert panel.parameters.plane.GetAttribute("GaussianMRI.Kind") == "cut"
