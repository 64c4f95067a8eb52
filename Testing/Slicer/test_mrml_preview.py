"""A slice view that follows a plane."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")

import slicer
from mrml_scenes import POINT, bright_point, oblique_plane_node, put_under_warp, random_field

from GaussianMRILib import GaussianMRIError, mrml
from GaussianMRILib.mrml import preview as preview_module
from GaussianMRILib.mrml.planes import frame_of
from GaussianMRILib.mrml.preview import Preview, end_saved_previews
from GaussianMRILib.mrml.scene import as_array
from GaussianMRILib.mrml.views import composite_of, show_volume


def start(scene: Any, view: Any, **options: Any) -> tuple[Any, Preview]:
    plane = oblique_plane_node(scene)
    return plane, Preview(random_field(), plane, view, **options)


def test_the_image_follows_the_plane_and_equals_a_fresh_one(scene: Any, view: Any) -> None:
    plane, preview = start(scene, view)
    field = random_field()
    for shift in ([0, 0, 0], [1.5, 0, -2], [0, 4, 1]):
        plane.SetCenter(*(POINT + shift))
        wanted = mrml.plane_from_node(plane, spacing=0.7)
        image = field.render(wanted)
        shown = slicer.util.arrayFromVolume(preview.volume)[0]
        outside = np.isnan(image)
        np.testing.assert_array_equal(shown[~outside], image[~outside])
        assert preview.facts is not None and preview.facts.outside == outside.mean()
        direction = as_array(view.GetSliceToRAS())
        np.testing.assert_allclose(direction[:3, 3], wanted.center, atol=1e-9)
        np.testing.assert_allclose(direction[:3, 0], wanted.i_axis, atol=1e-9)
        np.testing.assert_allclose(direction[:3, 1], -wanted.j_axis, atol=1e-9)
    assert composite_of(view).GetBackgroundVolumeID() == preview.volume.GetID()
    preview.stop()


def test_a_new_size_of_the_plane_gives_a_new_size_of_the_image(scene: Any, view: Any) -> None:
    plane, preview = start(scene, view, spacing=0.5)
    assert preview.facts is not None and preview.facts.shape == (36, 48)
    plane.SetSize(30, 30)
    assert preview.facts.shape == (60, 60)
    assert slicer.util.arrayFromVolume(preview.volume).shape == (1, 60, 60)
    plane.SetSize(2000, 1000)
    assert preview.facts.shape[0] * preview.facts.shape[1] <= 1.02 * 512 * 512
    preview.stop()


def test_a_view_that_is_resized_still_shows_the_whole_plane(scene: Any, view: Any) -> None:
    _, preview = start(scene, view)
    for width, height in ((100, 400), (500, 90)):
        view.SetDimensions(width, height, 1)
        across, down = view.GetFieldOfView()[:2]
        assert across >= 24 and down >= 18
        assert across < 24 * 1.05 or down < 18 * 1.05
    preview.stop()


def test_stop_gives_the_view_back_and_leaves_no_node(host: Any, scene: Any, view: Any) -> None:
    other = bright_point(scene)
    composite_of(view).SetBackgroundVolumeID(other.GetID())
    matrix, field_of_view = as_array(view.GetSliceToRAS()), tuple(view.GetFieldOfView())
    plane = oblique_plane_node(scene)
    before = host.ids()
    field = random_field()
    preview = Preview(field, plane, view, overlay="distance")
    assert len(host.ids()) > len(before) and preview.running
    preview.stop()
    assert host.ids() == before and not preview.running
    assert composite_of(view).GetBackgroundVolumeID() == other.GetID()
    np.testing.assert_array_equal(as_array(view.GetSliceToRAS()), matrix)
    assert tuple(view.GetFieldOfView()) == field_of_view
    plane.SetCenter(0, 0, 0)  # nobody listens any more
    assert host.ids() == before


def test_the_markup_is_not_drawn_over_its_own_image(host: Any, scene: Any, view: Any, tmp_path: Any) -> None:
    plane = oblique_plane_node(scene)
    plane.CreateDefaultDisplayNodes()
    display = plane.GetDisplayNode()
    other = scene.AddNewNodeByClass("vtkMRMLViewNode")
    preview = Preview(random_field(), plane, view)
    assert not display.IsDisplayableInView(view.GetID()) and display.IsDisplayableInView(other.GetID())
    host.save(tmp_path / "scene.mrb")
    assert not display.IsDisplayableInView(view.GetID())
    preview.stop()
    assert display.GetViewNodeIDs() == ()
    host.close()
    host.load(tmp_path / "scene.mrb")
    loaded = scene.GetFirstNodeByName("oblique")
    preview = Preview(random_field(), loaded, scene.GetNodeByID(view.GetID()) or view)
    preview.stop()
    assert loaded.GetDisplayNode().GetViewNodeIDs() == ()


def test_a_plane_that_is_removed_ends_the_preview(host: Any, scene: Any, view: Any) -> None:
    ended = []
    plane, preview = start(scene, view, changed=lambda: ended.append(True))
    scene.RemoveNode(plane)
    assert not preview.running and ended
    assert not [node for node in host.nodes() if node.GetAttribute("GaussianMRI.Kind") == "preview"]


def test_a_preview_volume_that_is_removed_ends_the_preview(scene: Any, view: Any) -> None:
    plane, preview = start(scene, view)
    scene.RemoveNode(preview.volume)
    assert not preview.running
    plane.SetCenter(*POINT)


def test_a_scene_that_is_closed_ends_the_preview(host: Any, scene: Any, view: Any) -> None:
    _, preview = start(scene, view)
    host.close()
    assert not preview.running and preview.volume is None


def test_a_preview_is_not_saved(host: Any, scene: Any, view: Any, tmp_path: Any) -> None:
    _, preview = start(scene, view)
    host.save(tmp_path / "scene.mrb")
    preview.stop()
    host.close()
    host.load(tmp_path / "scene.mrb")
    assert not [node for node in host.nodes() if node.GetAttribute("GaussianMRI.Kind") == "preview"]


def test_changes_between_two_idle_moments_cost_one_update(scene: Any, view: Any) -> None:
    waiting: list[Any] = []
    updates = []
    plane, preview = start(scene, view, schedule=waiting.append, changed=lambda: updates.append(1))
    for n in range(20):
        plane.SetCenter(*np.add(POINT, [0, 0, 0.1 * n]))
    assert len(waiting) == 1 and not updates
    waiting.pop()()
    assert len(updates) == 1
    np.testing.assert_allclose(as_array(view.GetSliceToRAS())[:3, 3], plane.GetCenter(), atol=1e-9)
    plane.SetCenter(*POINT)
    preview.stop()
    waiting.pop()()  # an update that comes after the end does nothing
    assert len(updates) == 1


def test_what_takes_long_has_larger_pixels_until_the_plane_rests(
    scene: Any, view: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds, waiting, resting = [0.0], [], []
    whole = preview_module.images_of

    def slow(renderer: Any, planes: Any, projection: str) -> Any:
        seconds[0] += 1e-4 * planes[0].shape[0] * planes[0].shape[1]
        return whole(renderer, planes, projection)

    def move(shift: Any) -> None:
        plane.SetCenter(*np.add(POINT, shift))
        waiting.pop()()

    monkeypatch.setattr(preview_module, "images_of", slow)
    monkeypatch.setattr(preview_module, "time", SimpleNamespace(perf_counter=lambda: seconds[0]))
    plane, preview = start(scene, view, spacing=0.5, schedule=waiting.append, settle=resting.append)
    view.SetFieldOfView(11.0, 10.0, 1.0)
    move([0, 0, 0.3])  # a first image is slow at any size and says nothing
    assert preview.facts.shape == (36, 48) and preview.facts.milliseconds == pytest.approx(172.8) and not resting
    for n in range(4):
        move([0, 0.1 * n, 0.4])
        assert preview.facts.milliseconds == pytest.approx(50, rel=0.1) and preview.facts.shape[0] < 22
    moved = mrml.plane_from_node(plane, spacing=preview.facts.spacing)
    shown, image = slicer.util.arrayFromVolume(preview.volume)[0], random_field().render(moved)
    np.testing.assert_array_equal(shown[np.isfinite(image)], image[np.isfinite(image)])
    assert len(resting) == 4
    resting[2]()  # it moved once more after that
    assert preview.facts.shape[0] < 22
    resting[3]()
    assert preview.facts.shape == (36, 48) and len(resting) == 4
    assert tuple(view.GetFieldOfView())[:2] == (11.0, 10.0)
    view.SetDimensions(200, 200, 1)  # a view of another size has another field of view, also while things move
    waiting.pop()()
    assert preview.facts.shape[0] < 22 and view.GetFieldOfView()[0] > 20
    preview.stop()
    resting[-1]()
    assert not preview.running


def test_a_plane_that_becomes_impossible_says_so_and_recovers(scene: Any, view: Any) -> None:
    plane, preview = start(scene, view)
    put_under_warp(scene, plane)
    preview.update()
    assert preview.problem is not None and "not linear" in preview.problem and preview.running
    plane.SetAndObserveTransformNodeID(None)
    preview.update()
    assert preview.problem is None
    preview.stop()


def test_a_preview_that_cannot_begin_leaves_nothing(host: Any, scene: Any, view: Any) -> None:
    plane = scene.AddNewNodeByClass("vtkMRMLMarkupsPlaneNode")  # not placed
    before = host.ids()
    with pytest.raises(GaussianMRIError, match="not placed"):
        Preview(random_field(), plane, view)
    assert host.ids() == before


def test_show_volume_looks_at_the_middle_of_its_planes(scene: Any, view: Any) -> None:
    field = random_field()
    volume = mrml.resample(field, oblique_plane_node(scene), count=3, step=2.0)
    show_volume(view, volume)
    wanted = mrml.plane_from_node(oblique_plane_node(scene), spacing=0.7)
    direction = as_array(view.GetSliceToRAS())
    np.testing.assert_allclose(direction[:3, 3], wanted.center, atol=1e-6)
    np.testing.assert_allclose(direction[:3, 0], wanted.i_axis, atol=1e-6)


def seen(view: Any) -> tuple[Any, ...]:
    """What a view shows, where it is turned to, and its steps."""
    shown = composite_of(view).GetBackgroundVolumeID(), view.GetSliceVisible(), view.GetSliceSpacingMode()
    return *shown, tuple(view.GetPrescribedSliceSpacing()), *as_array(view.GetSliceToRAS()).ravel()


def test_of_two_previews_in_a_view_the_later_has_it_and_gives_it_back(host: Any, scene: Any, view: Any) -> None:
    composite_of(view).SetBackgroundVolumeID(bright_point(scene).GetID())
    before, waiting = seen(view), []
    plane = oblique_plane_node(scene)
    first = Preview(random_field(), plane, view, schedule=waiting.append)
    other = oblique_plane_node(scene, np.add(POINT, [4, 5, 6]))
    other.SetNormal(0, 1, 0)
    places = [frame_of(node) for node in (plane, other)]
    second = Preview(random_field(), other, view)
    during = seen(view)
    for update in waiting:
        update()
    assert first.taken and not first.running and second.running
    assert seen(view) == during and during[0] == second.volume.GetID()
    for node, place in zip((plane, other), places, strict=True):
        np.testing.assert_allclose(frame_of(node), place, atol=1e-9)
    second.stop()
    assert seen(view) == before


def test_a_resampled_image_that_takes_the_view_keeps_it_turned(scene: Any, view: Any) -> None:
    steps = seen(view)[1:4]
    plane, preview = start(scene, view)
    image = mrml.resample(random_field(), oblique_plane_node(scene, POINT + 3), count=3, step=2.0)
    show_volume(view, image)
    turned = as_array(view.GetSliceToRAS())
    assert preview.taken
    preview.stop()
    np.testing.assert_array_equal(as_array(view.GetSliceToRAS()), turned)
    assert composite_of(view).GetBackgroundVolumeID() == image.GetID() and seen(view)[1:4] == steps
    np.testing.assert_allclose(frame_of(plane), frame_of(oblique_plane_node(scene)), atol=1e-9)


def test_a_scene_that_is_saved_during_a_preview_gives_view_and_markup_back(
    host: Any, scene: Any, view: Any, tmp_path: Any
) -> None:
    scan = bright_point(scene)
    composite_of(view).SetBackgroundVolumeID(scan.GetID())
    before = seen(view)
    plane = oblique_plane_node(scene)
    plane.CreateDefaultDisplayNodes()
    Preview(random_field(), plane, view)
    written = view.GetAttribute("GaussianMRI.ViewBefore")
    host.save(tmp_path / "scene.mrb")
    host.close()
    for name in ("other", "another", "third"):  # the scan gets another ID
        bright_point(scene, name=name)
    assert scene.ReadFromMRB(str(tmp_path / "scene.mrb"), False)
    lone = scene.AddNewNodeByClass("vtkMRMLSliceNode")  # nothing says what this view shows
    lone.SetLayoutName("Lone")
    lone.SetAttribute("GaussianMRI.ViewBefore", written)
    end_saved_previews(scene)
    loaded = scene.GetFirstNodeByName("scan")
    found = scene.GetFirstNodeByClass("vtkMRMLSliceNode")
    assert loaded.GetID() != before[0] and seen(found) == (loaded.GetID(), *before[1:])
    display = scene.GetFirstNodeByName("oblique").GetDisplayNode()
    assert display.IsDisplayableInView(found.GetID()) and display.GetFillVisibility()
