"""Slicer lets a misspelt parameter pass: what is assigned to it is then an attribute that nothing reads."""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")
pytest.importorskip(
    "PySide6.QtWidgets", reason="needs PySide6_Essentials, which is not installed", exc_type=ImportError
)

import slicer

HERE = Path(__file__).parent
MODULES = HERE.parents[1] / "GaussianMRI"
NAMES = ("GaussianMRIResampling", "GaussianMRICinematic", "GaussianMRIGrading")
#: What a parameter node's wrapper is called in modules and tests.
WRAPPERS = {"parameters", "_parameters", "_parameterNode"}


def assigned(source: str) -> Iterator[tuple[int, str]]:
    """Lines and names of what is assigned to parameters: parameters.name = ..., self._parameterNode.name = ..."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            owner = node.value
            name = (
                owner.attr
                if isinstance(owner, ast.Attribute)
                else owner.id
                if isinstance(owner, ast.Name)
                else ""
            )
            if name in WRAPPERS:
                yield node.lineno, node.attr


def test_every_parameter_that_is_assigned_exists(app: Any) -> None:
    known: dict[str, set[str]] = {}
    for name in NAMES:
        app.load_module(MODULES / name / f"{name}.py")
        known[name] = set(app.select(name).parameters.allParameters)
    found = [
        (path, line, attribute, known[name]) for name in NAMES for path in (MODULES / name).rglob("*.py")
        for line, attribute in assigned(path.read_text(encoding="utf-8"))
    ]  # fmt: skip
    assert len(found) > 10
    everything = set.union(*known.values())
    found += [
        (path, line, attribute, everything) for path in HERE.glob("test_module_*.py")
        for line, attribute in assigned(path.read_text(encoding="utf-8"))
    ]  # fmt: skip
    wrong = [
        f"{path.name}:{line}: {attribute}" for path, line, attribute, names in found if attribute not in names
    ]
    assert not wrong, wrong


def test_misspelt_names_are_found() -> None:
    source = (
        "def f(self, parameters):\n    parameters.spacin, x = 1, 2\n    self._parameterNode.thicknes = 3\n"
    )
    assert sorted(assigned(source)) == [(2, "spacin"), (3, "thicknes")]


@pytest.mark.parametrize("name", NAMES)
def test_damaged_parameters_of_a_scene_have_their_defaults(app: Any, name: str, tmp_path: Path) -> None:
    app.load_module(MODULES / name / f"{name}.py")
    panel = app.select(name)
    node, damaged = panel.parameters.parameterNode, []
    texts = {key: node.GetParameter(key) for key in node.GetParameterNames()}
    getattr(slicer.modules, name.lower()).widgetRepresentation().exit()
    gc.collect()  # wrappers that are still there would read what is damaged next
    plane = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsPlaneNode")
    for key, text in texts.items():
        if text == "" and not key.endswith(".len"):  # a node, or a path
            if "Volume" in key or key == "field":
                node.SetNodeReferenceID(key, plane.GetID())
                damaged.append(key)
        elif text not in ("True", "False"):
            node.SetParameter(key, "nan" if len(damaged) % 2 else "of another version")
            damaged.append(key)
    assert len(damaged) > 4
    app.save(tmp_path / "scene.mrb")
    app.close_scene()
    app.load(tmp_path / "scene.mrb")
    getattr(slicer.modules, name.lower()).widgetRepresentation().enter()
    app.wait(0.1)
    again = panel.parameters
    for key in damaged:
        basename = key.removesuffix(".len")
        info = again.allParameters[basename]
        value = again.getValue(basename)
        info.serializer.validate(value)
        if basename != key:
            assert list(value) == []
        elif texts[key]:
            assert value == info.default.value or isinstance(value, str)
