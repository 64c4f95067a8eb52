"""Sets of planes in one markups file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")

import vtk  # noqa: E402
from mrml_scenes import (  # noqa: E402
    bright_point,
    oblique_plane_node,
    plane_node,
    put_under,
    put_under_warp,
    rigid,
    rotation,
)

from GaussianMRILib import GaussianMRIError, ImagePlane, mrml  # noqa: E402

MOVE = rigid([0.3, -1, 0.2], 51, [4, -9, 2.5])
STRETCH = MOVE @ np.diag([1.2, 1.2, 1.2, 1])


def three_points(scene: Any) -> Any:
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsPlaneNode", "three")
    node.SetPlaneType(node.PlaneType3Points)
    for point in ([2.0, 20, -3], [3, -12, 9], [-17, 3, 2]):
        node.AddControlPointWorld(*point)
    return node


def some_planes(scene: Any) -> list[Any]:
    """Planes of every kind: by centre and axes, by three points, off its middle, under transforms."""
    turn = rotation([1, -2, 0.5], 130)
    shifted = plane_node(scene, (5, -7, 11), turn @ [1, 0, 0], turn @ [0, 1, 0], (31, 22))
    shifted.SetPlaneBounds(-10, 21, -15, 7)
    shifted.SetName("L4-L5 'disc'")
    nodes = [oblique_plane_node(scene), three_points(scene), shifted]
    for matrix in (MOVE, STRETCH):
        moved = [oblique_plane_node(scene, size=(30, 20)), three_points(scene)]
        for node in moved:
            put_under(scene, node, matrix)
        nodes += moved
    return nodes


def corners(node: Any) -> np.ndarray:
    points = vtk.vtkPoints()
    points.SetDataTypeToDouble()
    node.GetPlaneCornerPointsWorld(points)
    return np.array([points.GetPoint(n) for n in range(4)])


def test_a_set_comes_back_as_it_was(scene: Any, tmp_path: Path, host: Any) -> None:
    nodes = some_planes(scene)
    nodes[0].GetDisplayNode() or nodes[0].CreateDefaultDisplayNodes()
    nodes[0].GetDisplayNode().SetSelectedColor(0.25, 0.5, 0.75)
    before = host.ids()
    path = mrml.save_planes(tmp_path / "discs.mrk.json", nodes)
    assert host.ids() == before
    again = mrml.load_planes(path, scene=scene)
    assert [node.GetName() for node in again] == [node.GetName() for node in nodes]
    for old, new in zip(nodes, again, strict=True):
        assert np.allclose(corners(new), corners(old), rtol=0, atol=1e-12), old.GetName()
        assert np.allclose(new.GetSize(), old.GetSizeWorld(), rtol=0, atol=1e-12)
        theirs, ours = mrml.plane_from_node(old, spacing=0.7), mrml.plane_from_node(new, spacing=0.7)
        assert theirs.shape == ours.shape
        assert np.allclose(theirs.ijk_to_ras, ours.ijk_to_ras, rtol=0, atol=1e-12)
        assert new.GetParentTransformNode() is None
    kinds = [node.GetPlaneTypeAsString(node.GetPlaneType()) for node in again[:5]]
    assert kinds == ["pointNormal", "threePoints", "pointNormal", "pointNormal", "threePoints"]
    assert again[0].GetDisplayNode().GetSelectedColor() == (0.25, 0.5, 0.75)


def test_slicers_own_reader_takes_the_set(scene: Any, host: Any, tmp_path: Path) -> None:
    nodes = some_planes(scene)
    path = mrml.save_planes(tmp_path / "discs.mrk.json", nodes)
    wanted = [(node.GetName(), corners(node)) for node in nodes]
    host.close()
    logic = next(made for made in host.logics if made.IsA("vtkSlicerMarkupsLogic"))
    assert logic.LoadMarkups(str(path))
    loaded = [node for node in host.nodes() if node.IsA("vtkMRMLMarkupsPlaneNode")]
    assert [node.GetName() for node in loaded] == [name for name, _ in wanted]
    for node, (name, expected) in zip(loaded, wanted, strict=True):
        assert np.allclose(corners(node), expected, rtol=0, atol=1e-12), name


def test_the_command_line_reads_every_plane(scene: Any, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from GaussianMRILib import read_stacks
    from GaussianMRILib.cli import main

    field = mrml.field_from_model(mrml.fit([bright_point(scene)], prior="spline", passes=2, blend=0.5))
    field.save(tmp_path / "field.npz")
    turn = rotation([2, -1, 3], 20)
    nodes = [
        oblique_plane_node(scene),
        plane_node(scene, (13, -30, 25), turn @ [1, 0, 0], turn @ [0, 1, 0], (20, 12)),
    ]
    nodes[1].SetName("L5/S1 disc")
    put_under(scene, nodes[0], rigid([0, 0, 1], 5, [0, 0, 1]))
    path = mrml.save_planes(tmp_path / "set.mrk.json", nodes)
    arguments = [
        "resample",
        tmp_path / "field.npz",
        "--plane",
        path,
        "--spacing",
        0.5,
        "-o",
        tmp_path / "a.nii.gz",
    ]
    done = CliRunner().invoke(main, [str(part) for part in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert sorted(file.name for file in tmp_path.glob("a*")) == ["a-L5_S1_disc.nii.gz", "a-oblique.nii.gz"]
    for node, name in zip(nodes, ("oblique", "L5_S1_disc"), strict=True):
        (stack,) = read_stacks(tmp_path / f"a-{name}.nii.gz")
        expected = field.render(mrml.plane_from_node(node, spacing=0.5))
        assert np.allclose(stack.pixels[0], np.nan_to_num(expected), atol=0.02)


def test_what_does_not_work_leaves_nothing(scene: Any, host: Any, tmp_path: Path) -> None:
    good, bent, later = oblique_plane_node(scene), oblique_plane_node(scene), None
    put_under_warp(scene, bent)
    later = scene.AddNewNodeByClass("vtkMRMLMarkupsPlaneNode", "later")
    kept = mrml.save_planes(tmp_path / "kept.mrk.json", good)
    text = kept.read_text()
    content = json.loads(text)
    content["markups"][0]["baseToNode"] = [1, 2, 3]
    (tmp_path / "damaged.mrk.json").write_text(json.dumps({**content, "markups": content["markups"] * 2}))
    (tmp_path / "line.mrk.json").write_text(json.dumps({"markups": [{"type": "Line"}]}))
    before = host.ids()
    for call, message in (
        (lambda: mrml.save_planes(kept, []), "no plane to save"),
        (lambda: mrml.save_planes(kept, [good, bent]), "'warp', which is not linear"),
        (lambda: mrml.save_planes(kept, [good, later]), "'later' is not placed yet"),
        (lambda: mrml.save_planes(tmp_path / "set.txt", good), "set.txt is no name for a markups file"),
        (lambda: mrml.save_planes(tmp_path / "nowhere" / "a.mrk.json", good), "cannot be written"),
        (lambda: mrml.load_planes(tmp_path / "none.mrk.json", scene=scene), "none.mrk.json cannot be read"),
        (lambda: mrml.load_planes(tmp_path / "line.mrk.json", scene=scene), "no plane markup"),
        (lambda: mrml.load_planes(tmp_path / "damaged.mrk.json", scene=scene), "Slicer cannot read plane 1"),
    ):
        with pytest.raises(GaussianMRIError, match=message):
            call()
    assert host.ids() == before and kept.read_text() == text
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "damaged.mrk.json",
        "kept.mrk.json",
        "line.mrk.json",
    ]


def test_planes_of_slicers_own_file_are_named_after_it(scene: Any, tmp_path: Path) -> None:
    path = tmp_path / "disc.mrk.json"
    storage = slicer.vtkMRMLMarkupsPlaneJsonStorageNode()
    storage.SetFileName(str(path))
    node = oblique_plane_node(scene)
    assert storage.WriteData(node)
    (loaded,) = mrml.load_planes(path, scene=scene)
    assert loaded.GetName() == "disc"
    assert np.allclose(corners(loaded), corners(node), rtol=0, atol=1e-12)
    ((name, plane),) = ImagePlane.set_from_markups(path)
    assert name == "" and np.allclose(plane.ijk_to_ras, mrml.plane_from_node(node).ijk_to_ras)


def test_what_the_page_on_python_says_of_planes(scene: Any, tmp_path: Path) -> None:
    """Functions of the console give planes, of which nodes are made, and nodes are saved."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
    console = page.split("## Slicer's Python console")[1]
    for name in re.findall(r"`(?:mrml\.)?((?:plane|planes|save|load)_\w+)`", console):
        assert hasattr(mrml, name), name
    plane = mrml.plane_from_points([[0, 0, 0], [30, 0, 0], [0, 20, 10]])
    assert isinstance(plane, ImagePlane)
    node = mrml.plane_to_node(plane, scene=scene, name="disc")
    (again,) = mrml.load_planes(mrml.save_planes(tmp_path / "disc.mrk.json", node), scene=scene)
    np.testing.assert_allclose(again.GetCenter(), plane.center, atol=1e-6)
