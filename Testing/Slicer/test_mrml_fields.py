"""Fields as model nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")

from mrml_scenes import (  # noqa: E402
    assert_same_field,
    bright_point,
    lattice_field,
    oblique_plane_node,
    put_under,
    random_field,
    rigid,
)

from GaussianMRILib import GaussianMRIError, mrml  # noqa: E402
from GaussianMRILib.mrml.fields import changes_since_fit  # noqa: E402

MOVE = rigid([0.3, -1, 0.2], 51, [4, -9, 2.5])


def test_a_field_survives_its_node(scene: Any) -> None:
    field = random_field()
    node = mrml.field_to_model(field, scene=scene, name="spine")
    assert mrml.is_field(node) and node.GetName() == "spine"
    assert not node.GetDisplayNode().GetVisibility()
    assert_same_field(mrml.field_from_model(node), field)
    smaller = random_field(20)
    assert mrml.field_to_model(smaller, node=node) is node
    assert_same_field(mrml.field_from_model(node), smaller)


def test_a_field_knows_what_happened_to_its_volumes(host: Any, scene: Any, tmp_path: Path) -> None:
    volumes = [bright_point(scene, name=name) for name in ("a", "b")]
    mrml.field_to_model(random_field(), volumes=volumes, name="spine")
    host.save(tmp_path / "scene.mrb")
    host.close()
    host.load(tmp_path / "scene.mrb")
    node, a, b = (scene.GetFirstNodeByName(name) for name in ("spine", "a", "b"))
    assert changes_since_fit(node) == []
    transform = put_under(scene, b, MOVE)
    assert changes_since_fit(node) == ["'b' was moved"]
    slicer.util.arrayFromVolume(a)[2, 3, 4] += 1
    slicer.util.arrayFromVolumeModified(a)
    assert changes_since_fit(node) == ["'a' was changed", "'b' was moved"]
    b.SetAndObserveTransformNodeID(None)
    scene.RemoveNode(transform)
    mrml.field_to_model(random_field(), node=node, volumes=[a, b])  # fitted again
    assert changes_since_fit(node) == []
    scene.RemoveNode(a)
    assert changes_since_fit(node) == ["One of its volumes was removed"]


@pytest.mark.parametrize("text", ["[{}]", "[null]", '[{"shape": 1}]', "{", "3"])
def test_volumes_of_which_nothing_is_known_count_as_changed(scene: Any, text: str) -> None:
    node = mrml.field_to_model(random_field(), volumes=[bright_point(scene)])
    node.SetAttribute("GaussianMRI.VolumeStates", text)
    assert changes_since_fit(node) == ["'scan' was changed"]


def test_the_field_does_not_share_memory_with_the_node(scene: Any) -> None:
    node = mrml.field_to_model(random_field(), scene=scene)
    field = mrml.field_from_model(node)
    slicer.util.arrayFromModelPointData(node, "colours")[:] = 0
    assert_same_field(field, random_field())


@pytest.mark.parametrize("suffix", ["vtk", "vtp"])
@pytest.mark.parametrize("make", [random_field, lattice_field, lambda: lattice_field(30)])
def test_a_field_survives_a_model_file(scene: Any, tmp_path: Path, suffix: str, make: Any) -> None:
    field = make()
    storage = scene.AddNewNodeByClass("vtkMRMLModelStorageNode")
    storage.SetFileName(str(tmp_path / f"field.{suffix}"))
    assert storage.WriteData(mrml.field_to_model(field, scene=scene))
    again = scene.AddNewNodeByClass("vtkMRMLModelNode")
    assert storage.ReadData(again)
    assert_same_field(mrml.field_from_model(again), field)


def test_a_node_shows_the_bricks_of_a_lattice(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    field = lattice_field()
    lattice = field.lattice
    assert lattice is not None
    node = mrml.field_to_model(field, scene=scene)
    points = slicer.util.arrayFromModelPoints(node)
    assert np.allclose(points, lattice.points().mean(axis=(1, 2, 3)), atol=1e-4)
    colours = slicer.util.arrayFromModelPointData(node, "colours")
    assert np.allclose(colours, lattice.nodes.mean(dim=(1, 2, 3)), atol=1e-6)
    assert node.GetPolyData().GetNumberOfVerts() == 1
    monkeypatch.setattr("GaussianMRILib.mrml.fields._MOST_BRICKS", len(points) // 2)
    mrml.field_to_model(field, node=node)
    assert len(slicer.util.arrayFromModelPoints(node)) <= len(points) // 2
    assert_same_field(mrml.field_from_model(node), field)
    slicer.util.arrayFromModelPoints(node)[3, 1] += 1
    with pytest.raises(GaussianMRIError, match="moved or changed"):
        mrml.field_from_model(node)


def test_a_lattice_survives_a_bundle(host: Any, tmp_path: Path) -> None:
    field = lattice_field()
    mrml.field_to_model(field, scene=host.scene, name="spine")
    host.save(tmp_path / "scene.mrb")
    host.close()
    host.load(tmp_path / "scene.mrb")
    assert_same_field(mrml.field_from_model(host.scene.GetFirstNodeByName("spine")), field)


def test_a_scene_survives_a_bundle(host: Any, tmp_path: Path) -> None:
    field, volume = random_field(), bright_point(host.scene)
    node = mrml.field_to_model(field, volumes=[volume], name="spine")
    plane = oblique_plane_node(host.scene)
    result = mrml.resample(node, plane)
    pixels = slicer.util.arrayFromVolume(result).copy()
    affine = mrml.stack_from_volume(result).grid()
    host.save(tmp_path / "scene.mrb")
    host.close()
    assert host.scene.GetFirstNodeByName("spine") is None
    host.load(tmp_path / "scene.mrb")
    find = host.scene.GetFirstNodeByName
    node, plane, result = find("spine"), find("oblique"), find("oblique gaussians")
    assert mrml.is_field(node)
    assert_same_field(mrml.field_from_model(node), field)
    assert np.array_equal(slicer.util.arrayFromVolume(result), pixels)
    assert np.allclose(mrml.stack_from_volume(result).grid(), affine, atol=1e-9)
    assert result.GetNodeReference("GaussianMRI.Field") is node
    assert result.GetNodeReference("GaussianMRI.Plane") is plane
    assert result.GetNodeReference("GaussianMRI.Source") is find("scan")
    assert node.GetNodeReference("GaussianMRI.Volume") is find("scan")
    # A file keeps a plane's place to some digits only.
    again = slicer.util.arrayFromVolume(mrml.resample(node, plane))
    assert np.allclose(again, pixels, atol=0.05)


def test_what_is_no_field_is_refused(scene: Any) -> None:
    import vtk

    empty = scene.AddNewNodeByClass("vtkMRMLModelNode", "bone")
    surface = scene.AddNewNodeByClass("vtkMRMLModelNode", "skin")
    surface.SetAndObserveMesh(vtk.vtkPolyData())
    moved = mrml.field_to_model(random_field(), scene=scene, name="moved")
    put_under(scene, moved, MOVE)
    hardened = mrml.field_to_model(random_field(), scene=scene, name="hardened")
    put_under(scene, hardened, MOVE, harden=True)
    damaged = mrml.field_to_model(random_field(), scene=scene, name="damaged")
    damaged.GetPolyData().GetPointData().RemoveArray("factors")
    halved = mrml.field_to_model(lattice_field(), scene=scene, name="halved")
    halved.GetPolyData().GetFieldData().RemoveArray("lattice_codes")
    for node, message in (
        (empty, "field is needed, got 'bone'"),
        (surface, "field is needed, got 'skin'"),
        (bright_point(scene), "field is needed, got 'scan'"),
        (None, "field is needed, got NoneType"),
        (moved, "'moved' .* under the transform 'moved.*take it out"),
        (hardened, "'hardened' .* moved or changed"),
        (damaged, "'damaged' .* damaged Gaussian field"),
        (halved, "'halved' .* damaged Gaussian field"),
    ):
        with pytest.raises(GaussianMRIError, match=message):
            mrml.field_from_model(node)
