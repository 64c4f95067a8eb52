"""Cinematic models in 3D views."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")
pytest.importorskip(
    "PySide6.QtWidgets", reason="needs PySide6_Essentials, which is not installed", exc_type=ImportError
)

import slicer
import torch
from mrml_scenes import plane_node, put_under_warp

from GaussianMRILib import GaussianMRIError
from GaussianMRILib.cinematic.cut_face import CutFace
from GaussianMRILib.cinematic.model import CinematicModel
from GaussianMRILib.cinematic.presets import Preset
from GaussianMRILib.cinematic.splats import SH_C0, Splats
from GaussianMRILib.cinematic.tracer import PathTracer
from GaussianMRILib.cinematic.transfer import TransferFunction
from GaussianMRILib.mrml.cinematic import (
    CinematicView,
    camera_of_view,
    clip_of_node,
    preset_of_display,
    snapshot,
)


def coloured(places: dict[str, tuple[float, float, float]]) -> CinematicModel:
    """One opaque ball of 4 mm for each primary colour, at these RAS places."""
    colours = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0)}
    count = len(places)
    sh = (torch.tensor([colours[name] for name in places])[:, None, :] - 0.5) / SH_C0
    splats = Splats(
        torch.tensor(list(places.values())),
        torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(count, 1),
        torch.full((count, 3), float(np.log(4.0))),
        sh,
        torch.full((count,), 6.0),
    )
    return CinematicModel(splats, np.zeros(3), 50.0)


@pytest.fixture
def view(app: Any) -> Any:
    """The 3D view, from the front, 200 x 150 pixels or so."""
    three = slicer.app.layoutManager().threeDWidget(0).threeDView()
    renderer = three.renderWindow().GetRenderers().GetFirstRenderer()
    camera = renderer.GetActiveCamera()
    camera.SetPosition(0, 300, 0)  # from anterior
    camera.SetFocalPoint(0, 0, 0)
    camera.SetViewUp(0, 0, 1)
    camera.SetViewAngle(30)
    return renderer


def middle(picture: np.ndarray, channel: int) -> tuple[float, float]:
    """Column and row of the middle of one colour."""
    weights = np.clip(picture[..., channel].astype(float) - picture.sum(-1) / 2, 0, None)
    rows, columns = np.indices(weights.shape)
    assert weights.sum() > 0
    return float((columns * weights).sum() / weights.sum()), float((rows * weights).sum() / weights.sum())


def test_splats_are_where_vtk_would_draw_them(view: Any) -> None:
    places = {"red": (40.0, 0.0, 0.0), "green": (-40.0, 0.0, 20.0), "blue": (0.0, 5.0, -40.0)}
    cinematic = CinematicView(view, coloured(places), most_pixels=200 * 200)
    picture = cinematic.picture()
    rows, columns = picture.shape[:2]
    view.Render()
    for channel, place in enumerate(places.values()):
        view.SetWorldPoint(*place, 1.0)
        view.WorldToView()
        x, y, _ = view.GetViewPoint()  # -1 to 1, upwards
        expected = (x + 1) / 2 * columns - 0.5, (1 - y) / 2 * rows - 0.5
        np.testing.assert_allclose(middle(picture, channel), expected, atol=0.3)
    cinematic.stop()


def test_a_cut_face_shows_voxels_where_they_are(app: Any, view: Any) -> None:
    """Columns to the patient's left, rows backwards, slices of 3 mm downwards: what is red lies right, blue low."""
    places = {"red": (40.0, 0.0, 10.0), "green": (-35.0, 0.0, 22.0), "blue": (8.0, 0.0, -40.0)}
    matrix = np.diag([-1.0, -1.25, -3.0, 1.0])
    matrix[:3, 3] = 60, 50, 60
    k, j, i = np.indices((41, 81, 121))
    ras = np.stack([i, j, k], axis=-1) * np.diag(matrix)[:3] + matrix[:3, 3]
    plane = plane_node(app.scene, (0, 0, 0), (-1, 0, 0), (0, 0, 1))  # coronal; anterior is cut away
    for channel, place in enumerate(places.values()):
        volume = (np.linalg.norm(ras - place, axis=-1) < 9).astype(np.float32)
        colour = np.eye(3)[channel].tolist()
        look = Preset("ball", TransferFunction([[0, *colour], [1, *colour]], [[0.4, 0], [0.6, 0.999]]))
        model = coloured({"red": (0.0, 60.0, 0.0)})  # cut away
        model.face = CutFace.of(PathTracer(volume, matrix, look))
        cinematic = CinematicView(view, model, plane, most_pixels=200 * 200)
        picture = cinematic.picture()
        rows, columns = picture.shape[:2]
        view.Render()
        view.SetWorldPoint(*place, 1.0)
        view.WorldToView()
        x, y, _ = view.GetViewPoint()
        expected = (x + 1) / 2 * columns - 0.5, (1 - y) / 2 * rows - 0.5
        np.testing.assert_allclose(middle(picture, channel), expected, atol=0.6)
        if place[0]:  # seen from the front, the patient's right is on the left
            assert (middle(picture, channel)[0] < columns / 2) == (place[0] > 0)
        plane.SetCenter(0, -30, 0)  # behind the ball
        assert cinematic.picture().max() < 10
        plane.SetCenter(0, 0, 0)
        cinematic.stop()


def test_the_picture_is_behind_the_views_actors_and_goes_with_stop(app: Any, view: Any) -> None:
    before = app.pixels("3D").copy()
    cinematic = CinematicView(view, coloured({"green": (0.0, 0.0, 0.0)}))
    shown = app.pixels("3D")
    rows, columns = shown.shape[:2]
    centre = shown[rows // 2 - 12 : rows // 2 + 12, columns // 2 - 12 : columns // 2 + 12].reshape(-1, 3)
    # The ball is green, and the view's letter for anterior is drawn over it in white.
    assert ((centre[:, 1] > 60) & (centre[:, 0] < 30)).mean() > 0.6
    assert (centre > 200).all(axis=1).any()
    cinematic.stop()
    np.testing.assert_allclose(app.pixels("3D"), before, atol=2)
    assert not cinematic.running


def test_it_follows_camera_and_plane_and_draws_nothing_twice(app: Any, view: Any) -> None:
    drawn: list[int] = []
    plane = plane_node(app.scene, (0, 0, 30), (1, 0, 0), (0, 1, 0))
    places = {"red": (0.0, 0.0, 20.0), "blue": (0.0, 0.0, -20.0)}
    cinematic = CinematicView(view, coloured(places), plane, changed=lambda: drawn.append(1))
    both = cinematic.picture()
    assert both[..., 0].max() > 200 and both[..., 2].max() > 200
    view.GetRenderWindow().Render()
    assert len(drawn) == 1
    plane.SetCenter(0, 0, 0)
    lower = cinematic.picture()
    assert len(drawn) >= 2 and lower[..., 0].max() < 60 and lower[..., 2].max() > 200
    cinematic.follow(plane, flipped=True)
    upper = cinematic.picture()
    assert upper[..., 0].max() > 200 and upper[..., 2].max() < 60
    count = len(drawn)
    view.GetActiveCamera().Azimuth(10)
    view.GetRenderWindow().Render()
    assert len(drawn) == count + 1
    cinematic.follow(None)
    assert cinematic.picture()[..., 2].max() > 200
    cinematic.stop()


def test_a_plane_that_is_removed_no_longer_cuts(app: Any, view: Any) -> None:
    plane = plane_node(app.scene, (0, 0, 0), (1, 0, 0), (0, 1, 0))
    cinematic = CinematicView(view, coloured({"red": (0.0, 0.0, 20.0)}), plane)
    assert cinematic.picture()[..., 0].max() < 60
    app.scene.RemoveNode(plane)
    view.GetRenderWindow().Render()
    assert cinematic.picture()[..., 0].max() > 200 and cinematic.problem is None
    cinematic.stop()


def test_what_cannot_be_drawn_is_said_and_the_last_picture_stays(app: Any, view: Any) -> None:
    plane = plane_node(app.scene, (0, 0, 50), (1, 0, 0), (0, 1, 0))
    cinematic = CinematicView(view, coloured({"red": (0.0, 0.0, 0.0)}), plane)
    before = cinematic.picture()
    put_under_warp(app.scene, plane)
    view.GetRenderWindow().Render()
    assert "not linear" in (cinematic.problem or "")
    np.testing.assert_array_equal(cinematic.picture(), before)
    cinematic.stop()
    view.GetActiveCamera().ParallelProjectionOn()
    with pytest.raises(GaussianMRIError, match="perspective"):
        camera_of_view(view)
    view.GetActiveCamera().ParallelProjectionOff()


def test_the_side_that_the_normal_points_to_is_cut_away(app: Any) -> None:
    plane = plane_node(app.scene, (1, 2, 3), (0, 1, 0), (0, 0, 1))
    clip = clip_of_node(plane)
    np.testing.assert_allclose(clip.normal, plane.GetNormalWorld(), atol=1e-9)
    assert clip.signed_distance(np.array([[0.0, 0, 0]]))[0] < 0  # normal is +R, the point lies to its left
    view = app.scene.GetNodeByID("vtkMRMLSliceNodeRed")
    normal = clip_of_node(view).normal
    assert abs(normal[2]) == pytest.approx(1)
    np.testing.assert_allclose(clip_of_node(view, flipped=True).normal, -normal)


def test_the_look_of_volume_rendering_becomes_a_preset(app: Any) -> None:
    display = app.scene.AddNewNodeByClass("vtkMRMLGPURayCastVolumeRenderingDisplayNode")
    with pytest.raises(GaussianMRIError, match="no transfer functions"):
        preset_of_display(display)
    node = app.scene.AddNewNodeByClass("vtkMRMLVolumePropertyNode", "bone")
    display.SetAndObserveVolumePropertyNodeID(node.GetID())
    found = node.GetVolumeProperty()
    found.SetScalarOpacityUnitDistance(2.5)
    opacity, colour = found.GetScalarOpacity(), found.GetRGBTransferFunction()
    opacity.RemoveAllPoints()
    colour.RemoveAllPoints()
    for value, share in ((150.0, 0.0), (400.0, 0.8)):
        opacity.AddPoint(value, share)
    colour.AddRGBPoint(100.0, 0.5, 0.25, 0.125)
    colour.AddRGBPoint(600.0, 1.0, 0.75, 0.5)
    transfer = preset_of_display(display).transfer
    assert transfer.unit_distance == 2.5
    np.testing.assert_allclose(transfer.opacity_at([100, 275, 500]), [0, 0.4, 0.8], atol=1e-6)
    np.testing.assert_allclose(transfer.colour_at(350), [0.75, 0.5, 0.3125], atol=1e-6)


def test_a_snapshot_is_a_volume_that_keeps_its_pixels(app: Any, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    node = snapshot(picture, app.scene)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(node)[0], picture)
    app.save(tmp_path / "scene.mrb")
    name = node.GetName()
    app.close_scene()
    app.load(tmp_path / "scene.mrb")
    loaded = slicer.util.arrayFromVolume(app.scene.GetFirstNodeByName(name))
    np.testing.assert_array_equal(loaded.reshape(30, 40, 3), picture)
