"""Volume nodes as stacks of slices."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")

from mrml_scenes import bright_point, oblique_affine, put_under, put_under_warp, rigid, volume_node  # noqa: E402

from GaussianMRILib import GaussianMRIError, ImagePlane, mrml  # noqa: E402

MOVE = rigid([0.2, 1, 0.4], 33, [7.5, -3.25, 11])


def test_pixels_and_poses_are_those_of_the_node(scene: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 900, (5, 6, 7)).astype("i2")
    affine = oblique_affine(pixels.shape, (1, 2, 3))
    stack = mrml.stack_from_volume(volume_node(scene, pixels, affine, "T2 axial"))
    assert stack.name == "T2 axial" and stack.frame_of_reference is None
    assert stack.pixels.dtype == np.float32 and np.array_equal(stack.pixels, pixels)
    assert np.allclose(stack.grid(), affine, atol=1e-12)
    assert stack.thickness == pytest.approx(3.0)


def test_the_stack_does_not_change_with_the_node(scene: Any) -> None:
    node = volume_node(scene, np.ones((3, 4, 5), "f4"), np.diag([1, 1, 3, 1.0]))
    stack = mrml.stack_from_volume(node)
    slicer.util.arrayFromVolume(node)[:] = 5
    assert stack.pixels.max() == 1


@pytest.mark.parametrize("harden", [False, True])
def test_linear_transforms_are_applied(scene: Any, harden: bool) -> None:
    node = bright_point(scene)
    before = mrml.stack_from_volume(node)
    put_under(scene, node, MOVE, harden)
    after = mrml.stack_from_volume(node)
    assert np.allclose(after.grid(), MOVE @ before.grid(), atol=1e-9)
    assert np.array_equal(after.pixels, before.pixels)


def test_slices_lie_across_the_coarsest_axis(scene: Any) -> None:
    pixels = np.random.default_rng(0).random((6, 7, 5)).astype("f4")
    affine = np.diag([3.3, 0.9, 0.8, 1.0])  # i is the slice axis, as in some NIfTI files
    stack = mrml.stack_from_volume(volume_node(scene, pixels, affine))
    assert stack.shape[0] == 5 and stack.spacing == pytest.approx(3.3)
    at = np.linalg.inv(stack.grid()) @ affine @ [4, 2, 1, 1]
    i, j, k = at[:3].round().astype(int)
    assert stack.pixels[k, j, i] == pixels[1, 2, 4]


def dicom(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    tags = {"0018,0050": values.get("thickness", ""), "0020,0052": values.get("frame", "")}
    database = SimpleNamespace(instanceValue=lambda uid, tag: tags[tag] if uid == "1.2.3" else "")
    monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)


def test_thickness_and_frame_come_from_the_dicom_database(
    scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dicom(monkeypatch, thickness="2.5", frame="1.9.8")
    node = volume_node(scene, np.ones((3, 4, 5), "f4"), np.diag([4, 3, 3, 1.0]))
    assert mrml.stack_from_volume(node).thickness == 4  # along the coarsest axis; not known to the database
    node.SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4 1.2.5")
    stack = mrml.stack_from_volume(node)
    assert (stack.thickness, stack.spacing, stack.frame_of_reference) == (2.5, 3, "1.9.8")
    assert mrml.stack_from_volume(node, thickness=2).thickness == 2
    put_under(scene, node, np.diag([1, 1, 2, 1.0]))
    stack = mrml.stack_from_volume(node)
    assert (stack.thickness, stack.spacing) == (5, 6)
    assert stack.frame_of_reference is None  # it is elsewhere now


def test_what_is_no_scalar_volume_is_refused(scene: Any) -> None:
    labels = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "discs")
    slicer.util.updateVolumeFromArray(labels, np.ones((3, 4, 5), "i2"))
    colour = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "photo")
    slicer.util.updateVolumeFromArray(colour, np.ones((3, 4, 5, 3), "u1"))
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "nothing")
    warped = bright_point(scene, name="bent")
    put_under_warp(scene, warped)
    infinite = volume_node(scene, np.full((3, 4, 5), np.nan, "f4"), np.eye(4), "holes")
    for node, message in (
        (labels, "'discs'.*label map"),
        (colour, "'photo'.*3 values in each voxel"),
        (empty, "'nothing'.*no pixels"),
        (warped, "'bent'.*'warp'.*not linear. Harden"),
        (infinite, "holes: slice 0 .* NaN"),
        (scene.AddNewNodeByClass("vtkMRMLModelNode", "bone"), "scalar volume node is needed, got 'bone'"),
        ("scan", "scalar volume node is needed, got str"),
        (None, "scalar volume node is needed, got NoneType"),
    ):
        with pytest.raises(GaussianMRIError, match=message):
            mrml.stack_from_volume(node)


def test_images_become_a_volume_where_the_planes_are(scene: Any) -> None:
    plane = ImagePlane.from_normal((3, 4, 5), (0.2, -0.5, 1), spacing=(0.7, 0.9), shape=(6, 8), thickness=2.5)
    images = np.random.default_rng(0).random((3, 6, 8)).astype("f4")
    images[0, :2] = np.nan
    node = mrml.volume_from_images(list(images), plane.stack(3, 1.5), scene=scene, background=-7)
    stack = mrml.stack_from_volume(node)
    for listed, got in zip(plane.stack(3, 1.5), stack.planes(), strict=True):
        assert np.allclose(got.ijk_to_ras, listed.ijk_to_ras, atol=1e-12)
    assert stack.spacing == pytest.approx(1.5)
    pixels = slicer.util.arrayFromVolume(node)
    assert np.array_equal(pixels, np.where(np.isnan(images), np.float32(-7), images))
    facts = {name: node.GetAttribute(f"GaussianMRI.{name}") for name in node_facts()}
    assert facts == {
        "Background": "-7.0",
        "OutsideFraction": "0.111111",
        "OutsideFractions": "[0.333333, 0.0, 0.0]",
        "SliceThickness": "2.5",
    }


def node_facts() -> list[str]:
    return ["Background", "OutsideFraction", "OutsideFractions", "SliceThickness"]


def test_volumes_are_right_handed_as_slicer_makes_them(scene: Any, host: Any, tmp_path: Path) -> None:
    turned = ImagePlane.from_axes((3, 4, 5), (1, 0, 0), (0, 1, 0), spacing=(0.5, 0.5), shape=(6, 8))
    seen = ImagePlane.from_normal((3, 4, 5), (0.2, -0.5, -1), spacing=(0.7, 0.9), shape=(6, 8), thickness=2.5)
    images = np.random.default_rng(0).random((3, 6, 8)).astype("f4")
    images[0, :2] = np.nan
    handed = set()
    for name, plane in (("turned", turned), ("seen", seen)):
        planes = plane.stack(3, 1.5)
        handed.add(np.linalg.det(plane.ijk_to_ras[:3, :3]) > 0)
        node = mrml.volume_from_images(list(images), planes, scene=scene, name=name)
        stack = mrml.stack_from_volume(node)
        assert np.linalg.det(stack.grid()[:3, :3]) > 0
        way = slice(None, None, 1 if stack.normal @ plane.normal > 0 else -1)
        assert np.array_equal(stack.pixels[way], np.nan_to_num(images))
        for got, wanted in zip(stack.planes()[way], planes, strict=True):
            assert np.allclose(got.corners(), wanted.corners(), atol=1e-12)
        shares = json.loads(node.GetAttribute("GaussianMRI.OutsideFractions"))
        assert shares[way] == [0.333333, 0, 0]
    assert handed == {True, False}
    before = {name: mrml.stack_from_volume(scene.GetFirstNodeByName(name)) for name in ("turned", "seen")}
    host.save(tmp_path / "scene.mrb")
    host.load(tmp_path / "scene.mrb")
    for name, stack in before.items():
        again = mrml.stack_from_volume(scene.GetFirstNodeByName(name))
        assert np.array_equal(again.pixels, stack.pixels)
        assert np.allclose(again.ijk_to_ras, stack.ijk_to_ras, atol=1e-9)


def test_a_volume_is_filled_again(scene: Any, host: Any) -> None:
    plane = ImagePlane.from_axes((0, 0, 0), (1, 0, 0), (0, 1, 0), shape=(4, 5))
    node = mrml.volume_from_images([np.ones((4, 5), "f4")], [plane], scene=scene)
    before = host.ids()
    moved = plane.offset(3)
    assert mrml.volume_from_images([np.full((4, 5), 2, "f4")], [moved], node=node) is node
    assert host.ids() == before
    assert np.array_equal(slicer.util.arrayFromVolume(node), np.full((1, 4, 5), 2))
    assert np.allclose(mrml.stack_from_volume(node).plane(0).origin, moved.origin)
    with pytest.raises(GaussianMRIError, match="do not fit"):
        mrml.volume_from_images([np.ones((4, 4), "f4")], [plane], scene=scene)
    crooked = [plane, plane.offset(1), plane.offset(3)]
    with pytest.raises(GaussianMRIError, match="no regular volume"):
        mrml.volume_from_images([np.ones((4, 5), "f4")] * 3, crooked, scene=scene)
    assert host.ids() == before
