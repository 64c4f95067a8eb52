"""Several planes and turned boxes: what they leave, in the path tracer, in cut faces, in splats, and by the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cinematic_scenes import CENTER, random_ball
from click.testing import CliRunner
from cuda_support import scalar_against_emulation
from scipy.spatial.transform import Rotation
from test_cinematic_cut_face import empty, painted, tracer_of
from test_cinematic_live import SMALL, file  # noqa: F401  a fixture
from test_cinematic_model import model
from trace_scenes import affine, blob, plain

from GaussianMRILib import GaussianMRIError
from GaussianMRILib.cinematic.camera import Camera
from GaussianMRILib.cinematic.clip import ClipPlane, box_corners, box_planes, box_to_ras, combined
from GaussianMRILib.cinematic.cut_face import CutFace
from GaussianMRILib.cinematic.dataset import POINTS, DatasetOptions, make_dataset
from GaussianMRILib.cinematic.looks import Light
from GaussianMRILib.cinematic.picture import render_picture
from GaussianMRILib.cinematic.tracer import PathTracer
from GaussianMRILib.cli import main
from GaussianMRILib.geometry.markups import read_roi_markup
from GaussianMRILib.native.paths import reference
from GaussianMRILib.native.paths.arguments import SUMS, TraceScene

DENSE = plain(0.9999, (0.9, 0.5, 0.2))
TURNED = np.eye(4)
TURNED[:3, :3] = Rotation.from_euler("zyx", (35, 20, -15), degrees=True).as_matrix() * (6.0, 9.0, 4.0)
TURNED[:3, 3] = 1.0, -2.0, 3.0


def solid(roi: object = None, side: int = 40) -> PathTracer:
    """An opaque cube of 1 mm voxels round the origin."""
    matrix = np.eye(4)
    matrix[:3, 3] = -(side - 1) / 2
    return PathTracer(np.ones((side, side, side), np.float32), matrix, DENSE, roi=roi)


def first_hits(camera: Camera, inside: object, steps: int = 4000) -> np.ndarray:
    """Depth (H, W) along the camera's z at which each ray first is `inside`; NaN where it never is."""
    rays = camera.rays()
    away = float(np.linalg.norm(camera.eye))
    t = np.linspace(away - 45, away + 45, steps)
    points = camera.eye + rays[..., None, :] * t[:, None]
    found = inside(points)
    depth = t[found.argmax(axis=-1)] * (rays @ camera.world_to_camera[2, :3])
    return np.where(found.any(axis=-1), depth, np.nan)


CORNER = (ClipPlane((1, 0.2, 0.1), 2.0), ClipPlane((-0.1, 1, 0.3), 1.0), ClipPlane((0.1, -0.2, 1), 0.0))


@pytest.mark.parametrize("clip_type", ["union", "intersection"])
@pytest.mark.parametrize("place", [(-60, 240, 120), (140, 200, 160), (250, 60, -30)])
def test_the_tracer_shows_what_the_planes_leave(clip_type: str, place: tuple[int, int, int]) -> None:
    tracer = solid()
    camera = Camera.look_at(place, (0, 0, 0), size=36, fov_degrees=14)
    planes = combined(CORNER, clip_type)

    def inside(points: np.ndarray) -> np.ndarray:
        kept = np.stack([plane.signed_distance(points) < 0 for plane in CORNER])
        cube = np.all(np.abs(points) < 19.5, axis=-1)
        return cube & (kept.all(axis=0) if clip_type == "union" else kept.any(axis=0))

    expected = first_hits(camera, inside)
    render = tracer.render(camera, clips=planes, samples=24)
    seen, empty_ = np.isfinite(expected), np.isnan(expected)
    # Pixels of an edge are mixed.
    assert (render.alpha[seen] > 0.4).mean() > 0.95 and (render.alpha[empty_] < 0.6).mean() > 0.95
    off = np.abs(render.depth - expected)[seen]
    assert np.median(off) < 0.1 and np.quantile(off, 0.8) < 0.5
    assert not np.allclose(expected, first_hits(camera, lambda p: np.all(np.abs(p) < 19.5, axis=-1)), equal_nan=True)


def test_a_face_of_the_hole_has_its_plane_s_normal_and_colour() -> None:
    tracer = solid()
    camera = Camera.look_at((150, 170, 190), (0, 0, 0), size=33, fov_degrees=6)
    planes = combined([ClipPlane((1, 0, 0), 0.0), ClipPlane((0, 1, 0), 0.0), ClipPlane((0, 0, 1), 0.0)], "intersection")
    render = tracer.render(camera, clips=planes, samples=32)
    points = camera.eye + camera.rays() * (render.depth / (camera.rays() @ camera.world_to_camera[2, :3]))[..., None]
    for axis in range(3):
        others = [a for a in range(3) if a != axis]
        here = (np.abs(points[..., axis]) < 0.3) & np.all((points[..., others] > 2) & (points[..., others] < 17), axis=-1)
        assert here.sum() > 20
        straight = np.abs(render.normal[here] - np.eye(3)[axis]).max(axis=-1) < 0.06  # a hundredth of the paths goes deeper
        assert straight.mean() > 0.95


def test_a_white_medium_with_a_hole_cannot_be_seen_in_a_white_dome() -> None:
    volume = np.random.default_rng(1).random((21, 26, 30), dtype=np.float32)
    tracer = PathTracer(volume, affine(shape=volume.shape), plain(0.3, scatterings=4000, surface=0.3))
    planes = combined([ClipPlane.from_point(tracer.centre, n) for n in ((0.3, 0.9, -0.2), (1, 0, 0.2))], "intersection")
    render = tracer.render(tracer.camera(azimuth=-20, elevation=30, size=24), clips=planes, samples=200)
    inside = render.alpha > 0.2
    assert inside.sum() > 60 and np.abs(render.radiance[inside] - 1).max() < 1e-3


def lit(seed_volume: np.ndarray) -> PathTracer:
    look = plain(
        0.6, (0.9, 0.6, 0.4), surface=0.1, reflectance=0.2, shininess=10.0, anisotropy=0.4, scatterings=5,
        lights=(Light(30, 40, 2.5, 1.2, 1.0, (1.0, 0.8, 0.6)), Light(-80, -10, 3.0, 0.8, 0.7, (0.4, 0.7, 1.0))),
    )  # fmt: skip
    return PathTracer(seed_volume, affine((1.1, 0.9, 1.3), seed_volume.shape), look)


def wedge(tracer: PathTracer) -> tuple[ClipPlane, ...]:
    normals = ((0.4, 1, 0.2), (-1, 0.3, 0.1), (0.1, 0.2, 1))
    return (
        *combined([ClipPlane.from_point(tracer.centre, n) for n in normals], "intersection"),
        ClipPlane.from_point(tracer.centre + np.array([6.0, 0, 0]), (1, 0, 0)),
    )


def test_light_and_shadow_in_a_hole_are_the_reference_s(needs_kernels: None, seed: int) -> None:
    tracer = lit(0.3 + 0.7 * blob())
    scene = tracer._volume.scene(tracer.camera(azimuth=25, elevation=25, size=64), wedge(tracer), tracer.look)
    ours, theirs = torch.zeros(64, 64, SUMS), torch.zeros(64, 64, SUMS)
    torch.ops.gaussianmri.trace_(ours, scene, *tracer._volume.tensors(), seed, 0, 400)
    reference.trace_(theirs, TraceScene(scene, *tracer._volume.tensors(), seed, 0, 16))
    ours, theirs = (x[12:-12, 12:-12].mean(dim=(0, 1)) / n for x, n in ((ours, 400), (theirs, 16)))
    mean = float(ours[:3].mean())
    noise = (float(ours[11]) - mean**2) ** 0.5 / (40 * 40 * 16) ** 0.5 / mean
    assert noise < 0.012 and (ours[:3] / theirs[:3] - 1).abs().max() < 5 * noise
    assert (ours[3:7] / theirs[3:7] - 1).abs().max() < 0.015 and abs(float(ours[10] / theirs[10]) - 1) < 0.015
    assert (ours[7:10] - theirs[7:10]).abs().max() < 0.015


def test_the_emulated_cuda_kernel_knows_the_hole() -> None:
    tracer = lit(0.3 + 0.7 * blob())
    scene = tracer._volume.scene(tracer.camera(azimuth=25, elevation=25, size=(29, 21)), wedge(tracer), tracer.look)
    ours, theirs = torch.zeros(21, 29, SUMS), torch.zeros(21, 29, SUMS)
    with scalar_against_emulation() as paths:
        torch.ops.gaussianmri.trace_(ours, scene, *tracer._volume.tensors(), 5, 0, 12)
        paths.trace_(theirs, TraceScene(scene, *tracer._volume.tensors(), 5, 0, 12))
    same = (ours - theirs).abs().amax(dim=-1) <= 1e-3 * ours.abs().amax(dim=-1) + 1e-5
    assert paths.launcher.launched == ["gm_trace"] and float(same.float().mean()) > 0.9


# ---- boxes


def test_a_turned_box_crops_where_it_is() -> None:
    tracer = solid(TURNED)
    camera = Camera.look_at((60, 220, 120), TURNED[:3, 3], size=36, fov_degrees=9)
    inverse = np.linalg.inv(TURNED)
    expected = first_hits(camera, lambda p: np.all(np.abs(p @ inverse[:3, :3].T + inverse[:3, 3]) < 1, axis=-1))
    render = tracer.render(camera, samples=16)
    seen = np.isfinite(expected)
    assert seen.sum() > 200 and (render.alpha[seen] > 0.99).mean() > 0.85 and (render.alpha[~seen] < 0.01).mean() > 0.95
    assert np.median(np.abs(render.depth - expected)[seen]) < 0.1
    # The camera's sphere is about the box, not about the volume, nor about the upright box round it.
    assert tracer.radius < np.linalg.norm([6, 9, 4]) + 7 < solid().radius
    assert np.linalg.norm(tracer.centre - TURNED[:3, 3]) < 5


def test_an_upright_box_is_the_same_by_corners_and_by_matrix() -> None:
    low, high = np.array([-4.0, -12, -3]), np.array([15.0, 6, 20])
    matrix = box_to_ras((low, high))
    planes = box_planes(matrix)
    assert [(p.normal.tolist(), p.offset) for p in planes[:2]] == [([-1, 0, 0], 4), ([1, 0, 0], 15)]
    a, b = solid((low, high)), solid(matrix)
    camera = a.camera(azimuth=20, elevation=20, size=24)
    assert np.array_equal(a.render(camera, samples=4).image, b.render(camera, samples=4).image)


def test_a_data_set_of_a_turned_box_learns_from_it(tmp_path: Path) -> None:
    side, matrix = 40, np.eye(4)
    matrix[:3, 3] = -(side - 1) / 2
    options = DatasetOptions(train=2, test=1, size=24, samples=2, test_samples=2)
    volume = np.ones((side, side, side), np.float32)
    made = make_dataset(tmp_path, volume, matrix, look=DENSE, options=options, roi=TURNED.tolist())
    assert made is not None
    corners = box_corners(TURNED)
    np.testing.assert_allclose(made.bounds, [corners.min(axis=0), corners.max(axis=0)], atol=1e-9)
    with np.load(tmp_path / POINTS) as cloud:
        local = (cloud["points"] - TURNED[:3, 3]) @ np.linalg.inv(TURNED[:3, :3]).T
    assert np.abs(local).max() < 1.3 and np.abs(local).max(axis=0).min() > 0.9
    again = make_dataset(tmp_path, volume, matrix, look=DENSE, options=options, roi=TURNED)
    assert again is not None and again.fingerprint == made.fingerprint
    with pytest.raises(GaussianMRIError, match="other settings"):
        make_dataset(tmp_path, volume, matrix, look=DENSE, options=options)


def test_boxes_that_are_none_or_show_nothing_are_refused() -> None:
    for roi, words in (
        ((np.zeros(3), np.array([1.0, 0, 1])), "empty"),
        (np.diag([1.0, 1.0, 0.0, 1.0]), "empty"),
        (np.full((4, 4), np.nan), "empty"),
        (np.zeros(6), "two corners"),
        (TURNED + np.array([[0, 0, 0, 500.0]] + [[0] * 4] * 3), "outside"),
    ):
        with pytest.raises(GaussianMRIError, match=words):
            solid(roi)
    # Beside a corner of the cube: the upright box round it reaches into the cube, it does not.
    beside = np.eye(4)
    beside[:3, :3] = Rotation.from_euler("z", 45, degrees=True).as_matrix() * (12.0, 1.0, 5.0)
    beside[:3, 3] = 26.5, -26.5, 0
    with pytest.raises(GaussianMRIError, match="outside"):
        solid(beside)


def test_a_turned_box_of_a_markups_file(tmp_path: Path) -> None:
    lps = np.diag([-1.0, -1, 1])
    axes = TURNED[:3, :3] / (6, 9, 4)
    markup = {
        "type": "ROI", "coordinateSystem": "LPS", "roiType": "Box", "center": (lps @ TURNED[:3, 3]).tolist(),
        "orientation": (lps @ axes).ravel().tolist(), "size": [12.0, 18.0, 8.0], "insideOut": False,
    }  # fmt: skip
    path = tmp_path / "R.mrk.json"
    path.write_text(json.dumps({"markups": [markup]}), encoding="utf-8")
    np.testing.assert_allclose(read_roi_markup(path), TURNED, atol=1e-12)
    for change, words in (
        ({"type": "Plane"}, "no ROI"), ({"size": [1, 2]}, "incomplete"), ({"size": [1, 0, 1]}, "no extent"),
        ({"center": [1, 2, float("nan")]}, "no extent"), ({"center": None}, "incomplete"),
    ):  # fmt: skip
        with pytest.raises(GaussianMRIError, match=words):
            read_roi_markup({"markups": [{**markup, **change}]})


# ---- faces and splats


def test_faces_of_three_planes_are_the_path_tracer_s() -> None:
    tracer = tracer_of()
    planes = [ClipPlane.from_point(tracer.centre, n) for n in ((0.3, 1, 0.2), (-1, 0.3, 0.1), (0.1, 0.2, 1))]
    camera = tracer.camera(azimuth=35, elevation=35, size=40)
    truth = tracer.render(camera, clips=planes, samples=512)
    image, alpha, depth = painted(CutFace.of(tracer), camera, planes, side=4)
    rays = camera.rays()
    places = camera.eye + rays * (depth.numpy() / (rays @ camera.world_to_camera[2, :3]))[..., None]
    for plane in planes:
        inside = (alpha.numpy() > 0.99) & (np.abs(plane.signed_distance(places)) < 0.05)
        assert inside.sum() > 30
        off = image.numpy()[inside] / alpha.numpy()[inside, None] - truth.image[inside]
        assert np.abs(off).max() < 0.08 and np.abs(off.mean(axis=0)).max() < 0.01


def test_splats_under_several_planes_are_those_that_all_planes_keep() -> None:
    ball = model(random_ball(400, 3))
    camera = Camera.look_at(CENTER + np.array([20, 160, 30]), CENTER, size=40)
    planes = [ClipPlane.from_point(CENTER, (1, 0, 0.2)), ClipPlane.from_point(CENTER + np.array([0, 0, 8]), (0.1, 0, 1))]
    both = ball.render(camera, planes)
    assert torch.equal(ball.render(camera, planes[:1]).image, ball.render(camera, planes[0]).image)
    assert torch.equal(ball.render(camera, []).image, ball.render(camera).image)
    baked = ball.bake(planes)
    distances = [plane.signed_distance(baked.means.numpy()) for plane in planes]
    assert max(float(d.max()) for d in distances) < 0 and 0.15 < len(baked) / 400 < 0.6
    swapped = ball.render(camera, planes[::-1])
    assert float((both.image - swapped.image).abs().mean()) < 0.01  # which plane is cut exactly hardly matters
    rows = torch.arange(40)
    assert float(both.alpha.mean(dim=1)[rows < 10].max()) < 0.2 * float(ball.render(camera).alpha.mean(dim=1)[8])


def test_what_is_not_convex_is_refused_by_splats_and_faces() -> None:
    tracer = tracer_of()
    camera = tracer.camera(azimuth=0, elevation=0, size=16)
    apart = combined([ClipPlane((1, 0, 0), 5.0), ClipPlane((0, 1, 0), -3.0)], "intersection")
    with pytest.raises(GaussianMRIError, match="path tracer"):
        empty(tracer).render(camera, apart)
    with pytest.raises(GaussianMRIError, match="path tracer"):
        painted(CutFace.of(tracer), camera, apart)
    learned = model(random_ball(30, 1), "learned")
    with pytest.raises(GaussianMRIError, match="one plane at a time"):
        learned.render(camera, combined(apart, "union"))
    assert learned.takes(apart[:1]) and not learned.takes(combined(apart, "union"))


# ---- one picture, and the command


def test_several_planes_that_leave_nothing_are_refused() -> None:
    volume, matrix = np.ones((20, 20, 20), np.float32), np.eye(4)
    volume[0, 0, 0] = 0.9
    six = [
        ClipPlane(sign * np.eye(3)[axis], 6.0 if sign > 0 else -12.0)  # below 6, above 12
        for axis in range(3) for sign in (-1, 1)
    ]  # fmt: skip
    options = {"look": DENSE, "size": 16, "samples": 1, "denoised": False}
    with pytest.raises(GaussianMRIError, match="planes leave nothing"):
        render_picture(volume, matrix, clips=six, **options)
    # Of six half-spaces that exclude each other the intersection is all that is cut away by all: nothing.
    whole = render_picture(volume, matrix, clips=six, clip_type="intersection", **options)
    assert np.array_equal(whole.alpha, render_picture(volume, matrix, **options).alpha)
    hole = [ClipPlane((1, 0, 0), -50.0), ClipPlane((0, 1, 0), -50.0)]
    with pytest.raises(GaussianMRIError, match="planes leave nothing"):
        render_picture(volume, matrix, clips=hole, clip_type="intersection", **options)
    with pytest.raises(GaussianMRIError, match="union, intersection"):
        render_picture(volume, matrix, clips=hole, clip_type="Union", **options)


def test_the_command_cuts_a_wedge_and_a_turned_box(file: Path, tmp_path: Path) -> None:  # noqa: F811
    from PIL import Image

    def run(*more: object) -> np.ndarray:
        output = tmp_path / "x.png"
        front = ("--azimuth", 0, "--elevation", 0)
        arguments = ["cinematic", "picture", file, "-o", output, *SMALL, *front, *more]
        done = CliRunner().invoke(main, [*map(str, arguments)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return np.asarray(Image.open(output)).sum(axis=-1) > 60

    corner = ("--clip", 1, 0, 0, 0, "--clip", 0, 0, 1, 0)
    whole, both, wedge_ = run(), run(*corner), run(*corner, "--clip-type", "intersection")
    # From the front the patient's right is on the left: of the ball's quarters one is left, or one is gone.
    upper, lower, right, left = slice(0, 19), slice(21, 40), slice(0, 23), slice(25, 48)
    places = (upper, right), (upper, left), (lower, right), (lower, left)
    quarters = [[mask[place].sum() for place in places] for mask in (whole, both, wedge_)]
    assert min(quarters[0]) > 40 and quarters[1][:3] == [0, 0, 0] and quarters[1][3] > 40
    assert quarters[2][0] == 0 and min(quarters[2][1:]) > 40
    box = {"type": "ROI", "coordinateSystem": "RAS", "center": [0, 0, 0], "size": [4, 60, 60],
           "orientation": Rotation.from_euler("y", 45, degrees=True).as_matrix().ravel().tolist()}  # fmt: skip
    path = tmp_path / "R.mrk.json"
    path.write_text(json.dumps({"markups": [box]}), encoding="utf-8")
    slanted = run("--roi-file", path, "--zoom", 1)
    rows, columns = np.nonzero(slanted)
    assert slanted.sum() > 40 and abs(np.corrcoef(rows, columns)[0, 1]) > 0.9  # a diagonal bar
    both_given = ["cinematic", "picture", file, "-o", tmp_path / "y.png", "--roi-file", path, "--roi", *range(6)]
    assert CliRunner().invoke(main, [*map(str, both_given)]).exit_code == 2
