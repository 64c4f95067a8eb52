"""Fits that begin and end in the scene."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")

from mrml_scenes import POINT, bright_point, put_under, put_under_warp, rigid  # noqa: E402

from GaussianMRILib import GaussianMRIError, mrml  # noqa: E402
from GaussianMRILib.mrml.fields import changes_since_fit  # noqa: E402

TINY = {"prior": "spline", "passes": 2, "blend": 0.5}


def roi_node(scene: Any, center: Any = POINT, size: Any = (16, 20, 24)) -> Any:
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    node.SetCenter(np.asarray(center, float).tolist())
    node.SetSize(*size)
    return node


def test_a_field_is_fitted_beside_its_volume(scene: Any) -> None:
    volume = bright_point(scene)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.CreateItem(study, volume)
    seen: list[float] = []
    node = mrml.fit(volume, progress=lambda report: seen.append(report.fraction), seed=3, **TINY)
    assert node.GetName() == "scan field" and node.GetNodeReference("GaussianMRI.Volume") is volume
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study
    field = mrml.field_from_model(node)
    assert field.report["seed"] == 3 and field.report["stacks"][0]["name"] == "scan"
    assert len(seen) > 3 and 0 <= min(seen) <= max(seen) <= 1
    plane = mrml.stack_from_volume(volume).plane(6)
    acquired = slicer.util.arrayFromVolume(volume)[6]
    assert np.sqrt(np.mean((field.render(plane) - acquired) ** 2)) < 25  # of 1000


def test_a_region_is_fitted(scene: Any) -> None:
    volume, roi = bright_point(scene), roi_node(scene)
    field = mrml.field_from_model(mrml.fit([volume], roi=roi, **TINY))
    assert field.inside(POINT)
    assert field.slice_shapes.max() < 40 and len(field.slice_shapes) < 13


def test_a_box_encloses_its_roi(scene: Any) -> None:
    roi = roi_node(scene, (10, 20, 30), (4, 6, 8))
    assert np.allclose(mrml.box_from_roi(roi), [[8, 12], [17, 23], [26, 34]])
    put_under(scene, roi, rigid([0, 0, 1], 90, [1, 2, 3]))
    assert np.allclose(mrml.box_from_roi(roi), [[-22, -16], [10, 14], [29, 37]])
    turned = roi_node(scene, (0, 0, 0), (4, 6, 8))
    put_under(scene, turned, rigid([0, 0, 1], 45, [0, 0, 0]), harden=True)
    half = 5 / np.sqrt(2)
    assert np.allclose(mrml.box_from_roi(turned), [[-half, half], [-half, half], [-4, 4]])


def test_a_cancelled_fit_leaves_the_scene_alone(scene: Any, host: Any) -> None:
    volume = bright_point(scene)
    before = host.ids()
    with pytest.raises(GaussianMRIError, match="before it had a field"):
        mrml.fit([volume], progress=lambda report: False, **TINY)

    class Interrupted(Exception):
        pass

    def interrupt(report: Any) -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        mrml.fit([volume], progress=interrupt, **TINY)
    assert host.ids() == before


def test_a_fit_stopped_late_keeps_its_field(scene: Any) -> None:
    volume = bright_point(scene)
    reports: list[Any] = []

    def stop_when_fitting(report: Any) -> bool:
        reports.append(report)
        return report.stage != "fitting to slices"

    node = mrml.fit([volume], progress=stop_when_fitting, **TINY)
    assert reports[-1].fraction < 1 and len(mrml.field_from_model(node)) > 10


def test_nodes_may_go_while_they_are_fitted(scene: Any, host: Any) -> None:
    volumes = [bright_point(scene, name="one"), bright_point(scene, name="two")]
    node = mrml.fit(volumes, progress=lambda report: scene.RemoveNode(volumes[0]), **TINY)
    assert node.GetNumberOfNodeReferences("GaussianMRI.Volume") == 1
    assert node.GetNodeReference("GaussianMRI.Volume") is volumes[1]
    assert changes_since_fit(node) == ["One of its volumes was removed"]
    with pytest.raises(GaussianMRIError, match="removed from the scene"):
        mrml.fit([volumes[1]], progress=lambda report: host.close(), **TINY)
    assert not any(node.IsA("vtkMRMLModelNode") and not node.GetSingletonTag() for node in host.nodes())


def brighten(volume: Any) -> None:
    slicer.util.arrayFromVolume(volume)[2, 3, 4] += 1
    slicer.util.arrayFromVolumeModified(volume)


def shift(volume: Any) -> None:
    put_under(volume.GetScene(), volume, rigid([0, 0, 1], 0, [0, 0.5, 0]))


def bend(volume: Any) -> None:
    put_under_warp(volume.GetScene(), volume)


def empty(volume: Any) -> None:
    volume.SetAndObserveImageData(None)


@pytest.mark.parametrize(
    ("change", "how"), [(brighten, "changed"), (shift, "moved"), (bend, "changed"), (empty, "changed")]
)
def test_a_field_knows_what_happened_to_its_volume_during_the_fit(scene: Any, change: Any, how: str) -> None:
    volume, left = bright_point(scene), [change]

    def progress(report: Any) -> None:
        while left:
            left.pop()(volume)

    node = mrml.fit(volume, progress=progress, **TINY)
    assert len(mrml.field_from_model(node)) > 10 and changes_since_fit(node) == [f"'scan' was {how}"]
    if change is bend:  # taken off again, the volume is where it was
        volume.SetAndObserveTransformNodeID(None)
        assert changes_since_fit(node) == []


def test_bad_input_is_refused_before_anything_is_made(scene: Any, host: Any) -> None:
    volume, bent, later = bright_point(scene), roi_node(scene), roi_node(scene)
    put_under_warp(scene, bent)
    later.RemoveAllControlPoints()
    far = roi_node(scene, POINT + 500)
    before = host.ids()
    for call, message in (
        (lambda: mrml.fit([]), "at least one scalar volume"),
        (lambda: mrml.fit([volume], preset="best"), "no preset 'best'"),
        (lambda: mrml.fit([volume], colour="red"), "colour"),
        (lambda: mrml.fit([volume], roi=volume), "markups ROI is needed, got 'scan'"),
        (lambda: mrml.fit([volume], roi=bent), "not linear"),
        (lambda: mrml.fit([volume], roi=later), "not placed yet"),
        (lambda: mrml.fit([volume], roi=far), "no acquired pixels"),
    ):
        with pytest.raises(GaussianMRIError, match=message):
            call()
    assert host.ids() == before


def test_importing_the_bridge_imports_nothing_heavy() -> None:
    root = Path(__file__).resolve().parents[2]
    code = (
        "import sys, slicer, vtk, numpy; before = set(sys.modules); import GaussianMRILib.mrml; "
        "new = {n.split('.')[0] for n in set(sys.modules) - before}; "
        "sys.exit(', '.join(new & {'torch', 'scipy', 'SimpleITK', 'pydicom', 'click', 'tqdm'}) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    light = "import sys, GaussianMRILib; sys.exit(bool({'slicer', 'vtk'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", light], cwd=root).returncode == 0
