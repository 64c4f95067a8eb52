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
import vtk
from mrml_scenes import plane_node, put_under_warp, volume_node

from GaussianMRILib import GaussianMRIError
from GaussianMRILib.cinematic.cut_face import CutFace
from GaussianMRILib.cinematic.looks import Look
from GaussianMRILib.cinematic.model import CinematicModel
from GaussianMRILib.cinematic.splats import SH_C0, Splats
from GaussianMRILib.cinematic.tracer import PathTracer
from GaussianMRILib.cinematic.transfer import TransferFunction
from GaussianMRILib.mrml.cinematic import (
    CinematicView,
    camera_of_view,
    look_of_display,
    snapshot,
)
from GaussianMRILib.mrml.cinematic_clips import clip_of_node
from GaussianMRILib.mrml.cinematic_live import (
    bring_into_view,
    live_picture,
    look_of_volume,
    state_of,
    take_back,
)
from GaussianMRILib.mrml.jobs import end_jobs


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
        look = Look("ball", TransferFunction([[0, *colour], [1, *colour]], [[0.4, 0], [0.6, 0.999]]))
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


def test_planes_that_cut_are_outlines_until_they_no_longer_do(app: Any, view: Any) -> None:
    """A user's own plane is filled, and would tint the picture that it cuts."""
    nodes = [plane_node(app.scene, (0, 0, away), (1, 0, 0), (0, 1, 0)) for away in (10, 20)]
    for node in nodes:
        node.CreateDefaultDisplayNodes()
    filled = [node.GetDisplayNode() for node in nodes]
    filled[1].SetFillVisibility(False)

    def seen() -> list[bool]:
        return [bool(display.GetFillVisibility()) for display in filled]

    assert seen() == [True, False]
    cinematic = CinematicView(view, coloured({"red": (0.0, 0.0, 0.0)}), nodes[0], more_planes=[nodes[1]])
    assert seen() == [False, False]
    cinematic.follow(nodes[1])
    assert seen() == [True, False]
    cinematic.follow(nodes[0])
    assert seen() == [False, False]
    cinematic.stop()
    assert seen() == [True, False] and filled[0].GetAttributeNames().__len__() == 0


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


def test_the_look_of_volume_rendering_becomes_a_look(app: Any) -> None:
    display = app.scene.AddNewNodeByClass("vtkMRMLGPURayCastVolumeRenderingDisplayNode")
    with pytest.raises(GaussianMRIError, match="no transfer functions"):
        look_of_display(display)
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
    transfer = look_of_display(display).transfer
    assert transfer.unit_distance == 2.5
    np.testing.assert_allclose(transfer.opacity_at([100, 275, 500]), [0, 0.4, 0.8], atol=1e-6)
    np.testing.assert_allclose(transfer.colour_at(350), [0.75, 0.5, 0.3125], atol=1e-6)


def box(scene: Any, middle: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Any:
    """A volume node: a grey box of 60 mm, 2 mm voxels, in air."""
    pixels = np.full((40, 40, 40), -1000.0, np.float32)
    pixels[5:35, 5:35, 5:35] = 800
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = np.array(middle) - 39
    return volume_node(scene, pixels, affine, "box")


def rested(app: Any, cinematic: CinematicView, samples: int) -> np.ndarray:
    def done() -> bool:
        cinematic.advance()
        return cinematic.live is not None and cinematic.live.done >= samples

    app.wait(120, until=done)
    cinematic.advance()
    return cinematic.picture()


def test_a_volume_is_shown_at_once_and_refined_while_nothing_moves(app: Any, view: Any) -> None:
    volume = box(app.scene)
    look = look_of_volume(volume)
    assert look.name == "CT bone"
    live = live_picture(volume, look, samples=8)
    cinematic = CinematicView(view, None, most_pixels=120 * 120, live=live)
    first = cinematic.picture()
    assert first.max() > 60 and live.done == 0
    picture = rested(app, cinematic, 8)
    rows, columns = picture.shape[:2]
    assert rows * columns == pytest.approx(120 * 120, rel=0.03)
    inside = picture.sum(-1) > 60
    # The front face is 30 mm nearer than the focal point, 270 mm away.
    height = 60 / (2 * 270 * np.tan(np.radians(15))) * rows
    assert inside[:, columns // 2].sum() == pytest.approx(height, abs=3)
    assert not inside[0].any() and not inside[:, 0].any()
    before = cinematic.live.version
    view.GetRenderWindow().Render()
    assert live.version == before  # nothing moved, so nothing is drawn again
    view.GetActiveCamera().Azimuth(30)
    view.GetRenderWindow().Render()
    assert live.done == 0 and live.version > before
    cinematic.stop()


def test_several_planes_keep_what_each_of_them_keeps(app: Any, view: Any) -> None:
    live = live_picture(box(app.scene), look_of_volume(box(app.scene)), samples=16)
    left = plane_node(app.scene, (0, 0, 0), (0, 1, 0), (0, 0, 1))  # normal to the right: that side goes
    up = plane_node(app.scene, (0, 0, 0), (1, 0, 0), (0, 1, 0))  # normal upwards
    cinematic = CinematicView(view, None, left, most_pixels=100 * 100, live=live, more_planes=[up])
    assert clip_of_node(left).normal[0] > 0.99 and clip_of_node(up).normal[2] > 0.99
    seen = rested(app, cinematic, 16).sum(-1) > 40
    rows, columns = seen.shape
    middle = slice(rows // 2 + 3, rows // 2 + 12), slice(columns // 2 + 3, columns // 2 + 12)
    assert seen[middle].mean() > 0.95  # low and on the patient's left, on the right of the picture
    assert not seen[: rows // 2 - 6].any() and not seen[:, : columns // 2 - 6].any()
    cinematic.follow(left, flipped=True, more_planes=[up])
    seen = rested(app, cinematic, 16).sum(-1) > 40
    assert not seen[: rows // 2 - 6].any() and not seen[:, columns // 2 + 6 :].any() and seen.any()
    up.SetCenter(0, 0, -80)  # below the box
    view.GetRenderWindow().Render()
    assert live.nothing
    cinematic.stop()
    up.SetCenter(0, 0, 60)
    both = {"red": (10.0, 0.0, 20.0), "green": (-10.0, 0.0, 20.0), "blue": (-10.0, 0.0, -20.0)}
    alone = CinematicView(view, coloured(both), left, more_planes=[up])  # right of the middle and above 60 mm is away
    assert [alone.picture()[..., channel].max() > 200 for channel in range(3)] == [False, True, True]
    up.SetCenter(0, 0, 0)
    assert [alone.picture()[..., channel].max() > 200 for channel in range(3)] == [False, False, True]
    alone.stop()


def test_a_stopped_view_ends_its_thread_and_so_does_the_end_of_the_module(app: Any, view: Any) -> None:
    volume = box(app.scene)
    for end in (lambda view: view.stop(), lambda view: end_jobs(5)):
        cinematic = CinematicView(view, None, live=live_picture(volume, look_of_volume(volume), samples=4000))
        job = cinematic._job
        assert job is not None and job._thread.is_alive()
        end(cinematic)
        assert job.wait(5)
        cinematic.stop()


def test_the_state_of_a_picture_is_that_of_its_nodes(app: Any) -> None:
    volume = box(app.scene)
    roi = app.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    roi.SetCenter(0, 0, 0)
    roi.SetSize(30, 30, 30)
    display = app.scene.AddNewNodeByClass("vtkMRMLGPURayCastVolumeRenderingDisplayNode")
    display.SetAndObserveVolumePropertyNodeID(app.scene.AddNewNodeByClass("vtkMRMLVolumePropertyNode").GetID())
    seen = [state_of(volume, roi, display)]
    assert state_of(volume, roi, display) == seen[0]
    transform = app.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 12)
    transform.SetMatrixTransformToParent(matrix)
    for change in (
        lambda: roi.SetSize(30, 30, 40),
        lambda: slicer.util.updateVolumeFromArray(volume, np.ones((9, 9, 9))),
        lambda: display.GetVolumePropertyNode().GetScalarOpacity().AddPoint(100, 0.5),
        lambda: volume.SetAndObserveTransformNodeID(transform.GetID()),
    ):
        change()
        assert state_of(volume, roi, display) not in seen
        seen.append(state_of(volume, roi, display))


def test_a_volume_under_a_transform_and_in_a_region_is_where_it_is_in_the_world(app: Any) -> None:
    volume = box(app.scene)
    transform = app.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 50)
    transform.SetMatrixTransformToParent(matrix)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    np.testing.assert_allclose(live_picture(volume, look_of_volume(volume)).centre, (50, 0, 0), atol=4)
    roi = app.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    roi.SetCenter(70, 0, 0)
    roi.SetSize(10, 10, 10)
    live = live_picture(volume, look_of_volume(volume), roi)
    np.testing.assert_allclose(live.centre, (70, 0, 0), atol=8)
    roi.SetCenter(700, 0, 0)
    with pytest.raises(GaussianMRIError, match="outside"):
        live_picture(volume, look_of_volume(volume), roi)
    put_under_warp(app.scene, volume)
    with pytest.raises(GaussianMRIError, match="not linear"):
        live_picture(volume, look_of_volume(box(app.scene)))


def test_a_camera_that_does_not_see_the_volume_is_moved_and_put_back(app: Any, view: Any) -> None:
    near = live_picture(box(app.scene), look_of_volume(box(app.scene)))
    assert bring_into_view(view, near) is None
    far = live_picture(box(app.scene, (0.0, 0.0, 400.0)), look_of_volume(box(app.scene)))
    camera = view.GetActiveCamera()
    before = camera.GetPosition(), camera.GetFocalPoint()
    moved = bring_into_view(view, far)
    np.testing.assert_allclose(camera.GetFocalPoint(), far.centre)
    assert bring_into_view(view, far) is None  # it sees it now
    here = camera_of_view(view)
    take_back(view, moved)
    view.GetRenderWindow().SetSize(120, 300)
    moved = bring_into_view(view, far)
    high = camera_of_view(view)
    for seen, half in ((here, min(here.cx / here.fx, here.cy / here.fy)), (high, high.cx / high.fx)):
        away = np.linalg.norm(seen.eye - far.centre)
        assert np.arcsin(far.radius / away) == pytest.approx(np.arctan(half), rel=0.01)  # its sphere just fits
    take_back(view, moved)
    assert (camera.GetPosition(), camera.GetFocalPoint()) == before
    moved = bring_into_view(view, far)
    camera.Azimuth(10)
    turned = camera.GetPosition()
    take_back(view, moved)
    assert camera.GetPosition() == turned  # the user's own view stays


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


def test_a_clip_node_cuts_the_picture_and_is_followed(app: Any, view: Any) -> None:
    live = live_picture(box(app.scene), look_of_volume(box(app.scene)), samples=16)
    plane = plane_node(app.scene, (0, 0, 0), (1, 0, 0), (0, 1, 0))  # normal upwards
    node = app.scene.AddNewNodeByClass("vtkMRMLClipNode")
    node.AddAndObserveClippingNodeID(plane.GetID())
    cinematic = CinematicView(view, None, most_pixels=100 * 100, live=live, clip_node=node)
    seen = rested(app, cinematic, 16).sum(-1) > 40
    rows = len(seen)
    assert seen[: rows // 2].any() and not seen[rows // 2 + 6 :].any()  # the positive side is kept
    plane.SetCenter(0, 0, 15)
    seen = rested(app, cinematic, 16).sum(-1) > 40
    assert seen[: rows // 2].any() and not seen[rows // 2 - 4 :].any()
    left = plane_node(app.scene, (0, 0, 0), (0, 1, 0), (0, 0, 1))
    node.SetClippingNodeState(plane, node.ClipNegativeSpace)
    wedge = {"more_planes": [plane_node(app.scene, (0, 0, 0), (1, 0, 0), (0, 1, 0))], "clip_type": "intersection"}
    cinematic.follow(left, **wedge)
    seen = rested(app, cinematic, 16).sum(-1) > 40
    columns = seen.shape[1]
    # Away is only what is to the right and above, seen on the left.
    assert not seen[: rows // 2 - 6, : columns // 2 - 6].any()
    assert seen[: rows // 2 - 6, columns // 2 + 6 :].any() and seen[rows // 2 + 6 :, : columns // 2 - 6].any()
    cinematic.follow(left, clip_node=node, **wedge)
    assert cinematic.problem is None
    node.SetClipType(node.ClipIntersection)
    node.AddAndObserveClippingNodeID(left.GetID())
    view.GetRenderWindow().Render()
    assert "both leave" in (cinematic.problem or "")
    cinematic.stop()
    alone = CinematicView(view, coloured({"red": (0.0, 0.0, 0.0)}), left, **wedge)
    assert "path tracer" in (alone.problem or "")
    alone.stop()


def test_a_turned_region_is_shown_as_it_is(app: Any, view: Any) -> None:
    volume = box(app.scene)
    roi = app.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    roi.SetCenter(0, 0, 0)
    roi.SetSize(6, 100, 100)
    rotation = app.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform = vtk.vtkTransform()
    transform.RotateY(45)
    rotation.SetMatrixTransformToParent(transform.GetMatrix())
    roi.SetAndObserveTransformNodeID(rotation.GetID())
    live = live_picture(volume, look_of_volume(volume), roi, samples=8)
    cinematic = CinematicView(view, None, most_pixels=100 * 100, live=live)
    rows, columns = np.nonzero(rested(app, cinematic, 8).sum(-1) > 40)
    assert len(rows) > 100 and abs(np.corrcoef(rows, columns)[0, 1]) > 0.95  # a slanted bar
    cinematic.stop()
