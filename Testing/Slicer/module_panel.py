"""What the tests of the resampling module's panel share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import slicer

from GaussianMRILib import mrml

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "GaussianMRI" / "GaussianMRIResampling" / "GaussianMRIResampling.py"


def quick(panel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits of a few passes: what is tested here is what surrounds them."""
    slow = panel.logic.fitter
    monkeypatch.setattr(
        panel.logic, "fitter", lambda volumes, **options: slow(volumes, passes=2, prior="spline", **options)
    )


def fitted(app: Any, panel: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Press Apply and wait; the field's node."""
    quick(panel, monkeypatch)
    panel.ui.applyButton.click()
    app.wait(60, until=lambda: not panel.fitController.running)
    field = panel._parameterNode.field
    assert mrml.is_field(field), app.messages
    return field


def previews(panel: Any) -> list[Any]:
    return panel.previewController.previews


def nodes_of_previews() -> list[Any]:
    return [
        node
        for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        if node.GetAttribute("GaussianMRI.Kind") == "preview"
    ]
