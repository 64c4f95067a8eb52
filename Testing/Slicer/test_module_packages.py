"""Every button that needs packages asks for them before the application is busy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")
pytest.importorskip(
    "PySide6.QtWidgets", reason="needs PySide6_Essentials, which is not installed", exc_type=ImportError
)

from mrml_scenes import bright_point

from GaussianMRILib import GaussianMRIError
from GaussianMRILib.mrml import dependencies

MODULES = Path(__file__).resolve().parents[2] / "GaussianMRI"
SLOTS: dict[str, dict[str, Callable[[Any], None]]] = {
    "GaussianMRIResampling": {
        "fit": lambda panel: panel.onApply(),
        "resample": lambda panel: panel.onResample(),
        "report": lambda panel: panel.onReport(),
        "export to a file": lambda panel: panel.onExport(),
        "image along a curve": lambda panel: panel.curveController.onImage(),
        "volume along a curve": lambda panel: panel.curveController.onVolume(),
        "planes across a curve": lambda panel: panel.curveController.onPlanes(),
        "to a straight space": lambda panel: panel.curveController.onAlong(),
        "back from it": lambda panel: panel.curveController.onBack(),
        "isotropic volume": lambda panel: panel.sections[1]._start(),
        "labels": lambda panel: panel.sections[2]._start(),
    },
    "GaussianMRICinematic": {
        "model": lambda panel: panel.onApply(),
        "show": lambda panel: panel.onShow(True),
    },
    "GaussianMRIGrading": {
        "check": lambda panel: panel.onCheck(),
        "grade": lambda panel: panel.onGrade(),
        "grade all": lambda panel: panel.onGradeAll(),
        "measure": lambda panel: panel.onMeasure(),
        "report to a file": lambda panel: panel.onReport(),
    },
}


@pytest.mark.parametrize("name", SLOTS)
def test_packages_are_asked_for_without_the_busy_cursor(
    app: Any, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The stand-in raises where a question stands under the busy cursor; declined, nothing follows."""
    app.load_module(MODULES / name / f"{name}.py")
    panel = app.select(name)
    bright_point(app.scene)
    panel.initializeParameterNode()
    with pytest.raises(TypeError):
        panel.logic.ensurePackages(False)  # options are given by name
    monkeypatch.setattr(dependencies, "packages_missing", lambda others=(): ["pydicom>=2.4.1"])
    monkeypatch.setattr(dependencies, "_installed", lambda requirement: False)
    app.packages.missing = {"pydicom"}
    before = app.ids()
    for action, press in SLOTS[name].items():
        app.messages.clear()
        path = [str(tmp_path / "out")] if action.endswith("to a file") else []
        app.answers.extend([*path, "Cancel"])
        with pytest.raises(GaussianMRIError, match="not installed"):
            press(panel)
        assert "need to be installed" in app.messages[-2].text, action
        assert app.messages[-1].text.startswith("Packages are missing."), action
    assert app.ids() == before
