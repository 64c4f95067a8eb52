"""Fixtures of the tests on real MRML; skipped where slicer-core (or Slicer) is not installed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A fresh scene with its logics; see `host.Host`."""
    pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")
    from host import Host

    made = Host(tmp_path_factory.mktemp("slicer"))
    yield made
    made.scene.Clear(True)


@pytest.fixture
def app(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An application without a screen; see `host.application.Application`.

    A folder named by SLICER_PYTHON, with Slicer's own Python files, is used in place of the host's stand-ins.
    An exception that nobody handled, or an answer that no dialog asked for, fails the test.
    """
    pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")
    pytest.importorskip(
        "PySide6.QtWidgets", reason="needs PySide6_Essentials, which is not installed", exc_type=ImportError
    )
    from host.application import Application

    real = os.environ.get("SLICER_PYTHON")
    made = Application(tmp_path_factory.mktemp("slicer"), slicer_python=Path(real) if real else None)
    from GaussianMRILib.mrml import preview

    monkeypatch.setattr(preview, "LONGEST_MS", 1e9)  # how busy the machine is changes no picture
    try:
        yield made
        made.process()
        errors, answers = list(made.errors), list(made.answers)
    finally:
        made.quit()
    assert not errors + made.errors, "\n".join(errors + made.errors)
    assert not answers, f"no dialog asked for the answers {answers}"


@pytest.fixture
def scene(host: Any) -> Any:
    """The host's vtkMRMLScene."""
    return host.scene


@pytest.fixture
def view(host: Any) -> Iterator[Any]:
    """A slice view's node with its composite node, 300 x 200 screen pixels."""
    import slicer

    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLApplicationLogic(host.application)
    logic.SetMRMLScene(host.scene)
    node = logic.AddSliceNode("Red")
    node.SetDimensions(300, 200, 1)
    host.application.GetSliceLogics().AddItem(logic)
    yield node
    host.application.GetSliceLogics().RemoveAllItems()


@pytest.fixture
def panel(app: Any) -> Any:
    """The resampling module's widget, opened."""
    from module_panel import MODULE

    app.load_module(MODULE)
    return app.select(MODULE.stem)


@pytest.fixture
def scan(app: Any, panel: Any) -> Any:
    """A volume with a bright point at POINT, checked in the panel."""
    from mrml_scenes import bright_point

    node = bright_point(app.scene)
    panel.initializeParameterNode()
    assert panel._parameterNode.inputVolumes == [node]
    return node


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small networks that have learned to grade each side of `grading_scenes.spine`."""
    pytest.importorskip("monai", reason="needs MONAI, which is not installed")
    from grading_scenes import learned

    return learned(tmp_path_factory.mktemp("graders") / "small")
