"""The path tracer: energy, single scattering against quadrature, cut faces, determinism, misuse."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from instruction_sets import available, using
from trace_scenes import BLACK, WHITE, BruteForce, affine, blob, plain

from GaussianMRILib.cinematic.camera import Camera
from GaussianMRILib.cinematic.clip import ClipPlane, combined
from GaussianMRILib.cinematic.looks import Light
from GaussianMRILib.cinematic.tracer import PathTracer, srgb_to_linear, tone_map
from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.native.paths.arguments import CELL

pytestmark = pytest.mark.usefixtures("needs_kernels")


def random_volume(seed: int, shape: tuple[int, int, int] = (21, 26, 30)) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


@pytest.mark.parametrize(
    "changes",
    [{}, {"surface": 0.3}, {"surface": 0.3, "reflectance": 0.3, "shininess": 12.0}, {"anisotropy": 0.7}],
    ids=["particles", "surfaces", "shiny", "forward"],
)
def test_white_furnace(changes: dict) -> None:
    """A white medium in a white dome cannot be seen, whatever scatters, and where it is cut."""
    volume = random_volume(1)
    tracer = PathTracer(volume, affine(shape=volume.shape), plain(0.3, scatterings=4000, **changes))
    clip = ClipPlane.from_point(tracer.centre, (0.3, 0.9, -0.2))
    render = tracer.render(tracer.camera(azimuth=20, elevation=30, size=24), clips=[clip], samples=200)
    inside = render.alpha > 0.2
    assert inside.sum() > 60
    assert abs(render.radiance[inside].mean() - 1) < 0.01
    assert np.abs(render.radiance[inside] - 1).max() < 1e-3  # every path ends with exactly the dome's light


LIGHTS = (
    Light(30, 40, 2.5, 1.2, 1.0, (1.0, 0.8, 0.6)),
    Light(-80, -10, 3.0, 0.8, 0.7, (0.4, 0.7, 1.0)),
)


@pytest.mark.parametrize(
    ("changes", "clipped"),
    [
        ({"lights": LIGHTS, "horizon": BLACK, "zenith": BLACK, "nadir": BLACK}, False),
        pytest.param(
            {"horizon": (0.5, 0.6, 0.4), "zenith": WHITE, "nadir": (0.1, 0.0, 0.3)}, False, marks=pytest.mark.slow
        ),
        pytest.param(
            {"lights": LIGHTS, "surface": 0.1, "reflectance": 0.3, "shininess": 8.0, "anisotropy": 0.5}, False,
            marks=pytest.mark.slow,
        ),
        ({"lights": LIGHTS[:1], "surface": 0.1, "anisotropy": -0.3}, True),
    ],
    ids=["lights", "dome", "surfaces", "cut"],
)
def test_single_scattering_equals_quadrature(changes: dict, clipped: bool) -> None:
    volume = blob()
    matrix = affine((1.1, 0.9, 1.3), volume.shape)
    look = plain(0.3, (0.9, 0.6, 0.3), scatterings=1, **changes)
    tracer = PathTracer(volume, matrix, look)
    # A narrow view, so that a pixel is all but a ray; the cut is behind what the camera sees, but shadows pass it.
    camera = Camera.look_at(
        tracer.centre + np.array([30.0, 380.0, 60.0]),
        tracer.centre + np.array([4.0, 0, -1]),
        fov_degrees=0.1,
        size=3,
    )
    clips = [ClipPlane.from_point(tracer.centre, (0.2, -0.95, 0.1))] if clipped else []
    render = tracer.render(camera, clips=clips, samples=40_000, seed=3)
    truth = BruteForce(volume, matrix, look, tracer)
    for row, column in ((0, 0), (1, 1), (2, 0)):
        expected = truth.pixel(camera, row, column, clips)
        found = np.append(render.radiance[row, column] * render.alpha[row, column], render.alpha[row, column])
        assert expected[0] > 0.02 and expected[3] > 0.3
        noise = 4 * render.noise[row, column] * expected[:3] / expected[:3].mean()
        assert np.all(np.abs(found[:3] - expected[:3]) < noise + 0.01 * expected[:3])
        assert abs(found[3] - expected[3]) < 0.01


def test_the_medium_is_the_mean_over_a_voxel() -> None:
    """A sheet a tenth of a voxel thick, seen along itself, is a voxel thick and a tenth as dense."""
    volume = np.zeros((12, 20, 24), dtype=np.float32)
    volume[:, :, 12:] = 1.0
    look = plain()
    sheet = [[0, 0], [0.45, 0], [0.4501, 0.4], [0.5499, 0.4], [0.55, 0], [1, 0]]
    look = dataclasses.replace(look, transfer=dataclasses.replace(look.transfer, opacity=sheet))
    tracer = PathTracer(volume, np.eye(4), look)
    camera = Camera.look_at((11.5, 2000, 6), (11.5, 10, 6), fov_degrees=np.degrees(4 / 2000), size=40)  # 4 mm
    alpha = tracer.render(camera, samples=400).alpha[10:30].mean(axis=0)
    away = np.abs((np.arange(40) - 19.5) / 10)  # voxels from the sheet's middle
    assert np.abs(alpha[away < 0.4] - (1 - 0.6**1.9)).max() < 0.03
    assert alpha[away > 0.6].max() < 0.002


def test_opacity_of_a_slab() -> None:
    """alpha = 1 - exp(-extinction x length), to the noise, with and without a cut face."""
    volume = np.ones((20, 20, 20), dtype=np.float32)
    tracer = PathTracer(volume, affine((1.0, 1.0, 1.0), volume.shape), plain(0.05))
    matrix = affine((1.0, 1.0, 1.0), volume.shape)
    normal = matrix[:3, 1]
    camera = Camera.look_at(tracer.centre + normal * 900, tracer.centre, fov_degrees=0.2, size=8)
    whole = tracer.render(camera, samples=4000).alpha.mean()
    half = tracer.render(camera, clips=[ClipPlane.from_point(tracer.centre, normal)], samples=4000).alpha.mean()
    assert abs(whole - (1 - 0.95**19)) < 0.004 and abs(half - (1 - 0.95**9.5)) < 0.004


@pytest.mark.parametrize("scatterings", [1, 6])
def test_a_cut_face_has_its_voxels_colour(scatterings: int) -> None:
    """White light from everywhere in front: the face shows the albedo, the plane's normal and the plane's depth."""
    colours = np.array([[0.9, 0.2, 0.3], [0.3, 0.6, 0.9]])
    volume = np.zeros((24, 24, 24), dtype=np.float32)
    volume[:, :, :12], volume[:, :, 12:] = 0.2, 1.0
    matrix = np.diag([1.0, 1.0, 1.0, 1.0])
    look = plain(0.99, scatterings=scatterings)
    transfer = dataclasses.replace(
        look.transfer,
        colour=[[0.2, *colours[0]], [0.6, *colours[0]], [0.60001, *colours[1]], [1, *colours[1]]],
        opacity=[[0, 0.99], [1, 0.99]],
    )
    tracer = PathTracer(volume, matrix, dataclasses.replace(look, transfer=transfer))
    plane = ClipPlane.from_point((0, 12.3, 0), (0.1, 1, -0.1))
    camera = Camera.look_at((11.5, 300, 11.5), (11.5, 12, 11.5), fov_degrees=3, size=16)
    render = tracer.render(camera, clips=[plane], samples=400)
    own = srgb_to_linear(colours)
    rows = slice(4, 12)
    # From the front, the patient's left (large index here) is at the left of the image.
    for columns, colour in ((slice(3, 6), own[1]), (slice(10, 13), own[0])):
        assert np.allclose(render.albedo[rows, columns], colour, atol=2e-3)
        error = np.abs(render.radiance[rows, columns].mean(axis=(0, 1)) - colour)
        assert np.all(error < 0.02), (render.radiance[rows, columns].mean(axis=(0, 1)), colour)
    assert np.allclose(render.normal[rows, 3:13], plane.normal, atol=0.05)
    rays = camera.rays()
    onto = -plane.signed_distance(camera.eye) / (rays @ plane.normal)
    depth = onto * (rays @ camera.world_to_camera[2, :3])
    assert np.abs(render.depth - depth)[rows, 3:13].max() < 0.15
    assert render.alpha[rows, 3:13].min() == 1.0


def test_gradient_opacity() -> None:
    """With gradients below a threshold transparent, a cube is a shell; without, it is solid."""
    volume = np.zeros((30, 30, 30), dtype=np.float32)
    volume[6:24, 6:24, 6:24] = 1.0
    look = plain(0.5)
    shell = dataclasses.replace(look.transfer, gradient_opacity=[[0.2, 0], [0.4, 1]])
    camera_of = lambda tracer: Camera.look_at((14.5, 800, 14.5), (14.5, 0, 14.5), fov_degrees=0.3, size=6)  # noqa: E731
    cut = ClipPlane((0, 1, 0), 15.0)
    alphas = []
    for transfer in (look.transfer, shell):
        tracer = PathTracer(volume, np.eye(4), dataclasses.replace(look, transfer=transfer))
        alphas.append(tracer.render(camera_of(tracer), clips=[cut], samples=2000).alpha.mean())
    # The cut is in the middle of the cube, where nothing changes: only the far wall (2 voxels of 0.5) is left.
    assert alphas[0] > 0.98 and 0.2 < alphas[1] < 0.9


def test_majorants_bound_the_extinction() -> None:
    volume = random_volume(5, (19, 33, 26))
    look = plain(0.4)
    tracer = PathTracer(volume, affine(shape=volume.shape), look)
    v = tracer._volume
    from scipy.ndimage import map_coordinates

    generator = np.random.default_rng(2)
    points = generator.random((3, 20000)) * (np.array(v.values.shape)[:, None] - 1)
    near = points + generator.random((3, 20000)) - 0.5
    values = map_coordinates(v.values.numpy().astype(np.float64), near, order=1, mode="nearest")
    extinction = v.table.numpy()[:4096][(values * 4095 / 65535 + 0.5).astype(int)]
    cells = (points // CELL).astype(int)
    majorant = v.majorants.numpy()[tuple(cells)]
    assert np.all(extinction <= majorant) and np.median(majorant / extinction) < 4


def test_empty_cells_are_skipped_without_loss() -> None:
    """A needle in a large empty volume: crossed at random, it hides what it hides without skipping."""
    volume = np.zeros((120, 130, 110), dtype=np.float32)
    volume[10:13, 20:110, 50:53] = 1.0
    volume[100, 100, 100] = 1e-3
    tracer = PathTracer(volume, np.eye(4), plain(0.5))
    cells = tracer._volume
    assert int(cells.skips.max()) >= 5 and torch.equal(cells.skips == 0, cells.majorants > 0)
    camera = tracer.camera(azimuth=25, elevation=35, size=40)
    quick = tracer.render(camera, samples=64)
    cells.skips.clamp_(max=1)
    slow = tracer.render(camera, samples=64)
    assert quick.alpha.sum() > 10 and np.abs(quick.alpha - slow.alpha).max() < 0.05


def test_same_seed_same_image(threads) -> None:
    volume = blob()
    look = plain(0.5, (0.8, 0.5, 0.4), surface=0.1, reflectance=0.1, lights=LIGHTS)
    tracer = PathTracer(volume, affine(shape=volume.shape), look)
    camera = tracer.camera(azimuth=10, elevation=20, size=(37, 21))
    images = []
    for count in (1, 2, 5):
        threads(count)
        images.append(tracer.render(camera, samples=20, seed=9))
    passes = list(tracer.progressive(camera, samples=20, seed=9))
    assert [p.samples for p in passes][:3] == [1, 2, 4] and passes[-1].samples == 20
    for other in (*images[1:], passes[-1]):
        for name in ("image", "alpha", "depth", "albedo", "normal", "noise"):
            assert np.array_equal(getattr(images[0], name), getattr(other, name)), name
    assert not np.array_equal(images[0].image, tracer.render(camera, samples=20, seed=10).image)


def test_instruction_sets_agree() -> None:
    """Different rounding leads single paths elsewhere, but not the image."""
    volume = blob()
    tracer = PathTracer(volume, affine(shape=volume.shape), plain(0.5, surface=0.1, lights=LIGHTS))
    camera, images = tracer.camera(size=16), []
    for name in available():
        with using(name):
            images.append(tracer.render(camera, samples=256).image)
    assert all(np.abs(image - images[0]).mean() < 0.005 for image in images[1:])


@pytest.mark.parametrize("gradients", [(), [[0, 0.2], [0.1, 1]]], ids=["plain", "gradients"])
def test_kernels_equal_the_reference(gradients: object, seed: int) -> None:
    """Multiple scattering, lights, dome, highlights and a cut face, against an independent implementation."""
    from GaussianMRILib.native.paths import reference
    from GaussianMRILib.native.paths.arguments import SUMS, TraceScene

    volume = blob() * (0.6 + 0.4 * random_volume(seed, blob().shape))
    look = plain(
        0.6,
        (0.9, 0.6, 0.4),
        surface=0.1,
        reflectance=0.2,
        shininess=10.0,
        anisotropy=0.4,
        lights=LIGHTS,
        scatterings=5,
    )
    transfer = dataclasses.replace(look.transfer, gradient_opacity=gradients)
    look = dataclasses.replace(look, transfer=transfer, zenith=(0.3, 0.4, 0.6), nadir=(0.2, 0.1, 0.1))
    tracer = PathTracer(volume, affine((1.1, 0.9, 1.3), volume.shape), look)
    clip = ClipPlane.from_point(tracer.centre + np.array([0, 3, 0]), (0.4, 1, 0.2))
    scene = tracer._volume.scene(tracer.camera(azimuth=25, elevation=15, size=80), [clip], tracer.look)
    ours, theirs = torch.zeros(80, 80, SUMS), torch.zeros(80, 80, SUMS)
    torch.ops.gaussianmri.trace_(ours, scene, *tracer._volume.tensors(), seed, 0, 500)
    reference.trace_(theirs, TraceScene(scene, *tracer._volume.tensors(), seed, 0, 16))
    ours, theirs = (x[16:-16, 16:-16].mean(dim=(0, 1)) / n for x, n in ((ours, 500), (theirs, 16)))
    assert float(ours[3]) > 0.3
    mean = float(ours[:3].mean())
    noise = (float(ours[11]) - mean**2) ** 0.5 / (48 * 48 * 16) ** 0.5 / mean  # of the reference's mean
    assert noise < 0.01 and (ours[:3] / theirs[:3] - 1).abs().max() < 5 * noise
    assert (ours[3:7] / theirs[3:7] - 1).abs().max() < 0.015 and abs(float(ours[10] / theirs[10]) - 1) < 0.015
    assert (ours[7:10] - theirs[7:10]).abs().max() < 0.01 and abs(float(ours[11] / theirs[11]) - 1) < 0.1


def test_noise_falls_with_samples() -> None:
    volume = blob()
    tracer = PathTracer(volume, affine(shape=volume.shape), plain(0.5, (0.6, 0.6, 0.6), lights=LIGHTS))
    camera = tracer.camera(size=24)
    few, many = (tracer.render(camera, samples=n, seed=1) for n in (16, 256))
    inside = many.alpha > 0.9
    ratio = few.noise[inside].mean() / many.noise[inside].mean()
    assert 3 < ratio < 5
    error = np.abs(few.radiance - tracer.render(camera, samples=4096, seed=2).radiance).mean(axis=-1)
    assert 0.2 < error[inside].mean() / few.noise[inside].mean() < 1.2


def test_cancel_and_progress() -> None:
    tracer = PathTracer(blob(), affine(shape=(20, 24, 28)), plain())
    seen: list[tuple[int, int]] = []
    render = tracer.render(
        tracer.camera(size=8), samples=64, progress=lambda done, total: seen.append((done, total)),
        cancelled=lambda: len(seen) >= 3,
    )  # fmt: skip
    assert render.samples == 4 and seen == [(1, 64), (2, 64), (4, 64)]


@pytest.mark.parametrize(("size", "axis"), [(64, 1), ((80, 40), 1), ((40, 80), 0), (np.int64(64), 1)])
def test_at_zoom_1_the_sphere_just_fits(size: Any, axis: int) -> None:
    tracer = PathTracer(blob(), affine(shape=(20, 24, 28)), plain(0.6))
    camera = tracer.camera(azimuth=20, elevation=30, size=size)
    away = np.random.default_rng(0).normal(size=(20_000, 3))
    pixels, _ = camera.project(tracer.centre + tracer.radius * away / np.linalg.norm(away, axis=1, keepdims=True))
    ends = np.array([camera.width, camera.height])
    assert np.all(pixels > 0) and np.all(pixels < ends)
    assert pixels[:, axis].min() < 0.01 * ends[axis] and pixels[:, axis].max() > 0.99 * ends[axis]


def test_what_is_no_camera_is_refused() -> None:
    tracer = PathTracer(blob(), affine(shape=(20, 24, 28)), plain(0.6))
    for wrong, words in (
        ({"zoom": 0.0}, "zoom"), ({"zoom": -1.0}, "zoom"), ({"zoom": math.nan}, "zoom"),
        ({"fov_degrees": 0.0}, "field of view"), ({"size": 0}, "pixels a side"), ({"size": (8, 20_000)}, "pixels a side"),
    ):  # fmt: skip
        with pytest.raises(GaussianMRIError, match=words):
            tracer.camera(**wrong)


def test_a_plane_that_removes_everything_leaves_the_background() -> None:
    tracer = PathTracer(blob(), affine(shape=(20, 24, 28)), plain())
    away = ClipPlane.from_point(tracer.centre + np.array([0, 0, -500]), (0, 0, 1))
    render = tracer.render(tracer.camera(size=8), clips=[away], samples=4, background=(0.1, 0.2, 0.3))
    assert render.alpha.max() == 0 and np.allclose(render.image, (0.1, 0.2, 0.3))
    assert render.depth.max() == 0 and np.allclose(render.over((0.5, 0, 0)), (0.6, 0.2, 0.3))


def test_region_of_interest() -> None:
    volume = np.ones((40, 40, 40), dtype=np.float32)
    tracer = PathTracer(volume, np.eye(4), plain(0.9), roi=((10, 10, 10), (20, 22, 24)))
    render = tracer.render(Camera.look_at((15, 400, 17), (15, 0, 17), fov_degrees=5, size=32), samples=16)
    rows, columns = np.nonzero(render.alpha > 0.5)
    per_pixel = 2 * (400 - 22) * np.tan(np.radians(2.5)) / 32
    assert abs(np.ptp(columns) + 1 - 10 / per_pixel) < 2 and abs(np.ptp(rows) + 1 - 14 / per_pixel) < 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(volume=np.zeros((4, 4))), "three axes"),
        (dict(volume=np.zeros((1, 4, 4))), "two voxels"),
        (dict(volume=np.zeros((9, 9, 9), np.float32)), "shows nothing"),
        (dict(roi=((0, 0, 0), (0, 5, 5))), "empty"),
        (dict(roi=((500, 500, 500), (600, 600, 600))), "outside"),
    ],
)
def test_bad_volumes(change: dict, words: str) -> None:
    values = {"volume": blob(), "ijk_to_ras": affine(shape=(20, 24, 28)), "look": plain(), **change}
    with pytest.raises(GaussianMRIError, match=words):
        PathTracer(**values)


def test_bad_renders() -> None:
    tracer = PathTracer(blob(), affine(shape=(20, 24, 28)), plain())
    camera = tracer.camera(size=4)
    with pytest.raises(GaussianMRIError, match="at least one sample"):
        tracer.render(camera, samples=0)
    with pytest.raises(GaussianMRIError, match="At most"):
        tracer.render(camera, clips=[ClipPlane((0, 0, 1), 0.0)] * 19)


@pytest.mark.parametrize("kind", ["union", "intersection"])
def test_planes_that_cut_nothing_change_nothing(kind: str) -> None:
    """Planes are met several at once: whatever their place among others, and whichever of them bound the hole."""
    tracer = PathTracer(blob(), affine(shape=(20, 24, 28)), plain())
    camera = tracer.camera(size=24, azimuth=30, elevation=20)
    cuts = combined([ClipPlane.from_point(tracer.centre, n) for n in ((0.3, 1.0, 0.2), (-0.4, 0.9, 0.5))], kind)
    far = [ClipPlane((0.0, 0.6, 0.8), 1e4 + n) for n in range(16)]
    alone = tracer.render(camera, clips=cuts, samples=4)
    uncut = tracer.render(camera, samples=4)
    assert (alone.depth != uncut.depth).mean() > 0.1
    for count in (1, 2, 3, 10, 16):
        both = tracer.render(camera, clips=[*far[:count], *cuts], samples=4)
        assert np.array_equal(both.radiance, alone.radiance) and np.array_equal(both.depth, alone.depth), count


def test_missing_values_are_the_smallest() -> None:
    volume = blob()
    broken = volume.copy()
    broken[0, 0, :5] = np.nan
    first, second = (PathTracer(v, affine(shape=volume.shape), plain(0.5)) for v in (volume, broken))
    camera = first.camera(size=8)
    assert np.array_equal(first.render(camera, samples=4).image, second.render(camera, samples=4).image)


def test_tone_mapping() -> None:
    shown = tone_map([[0.0, 0.5, 1.0], [3.0, 100.0, 0.001]])
    assert shown.dtype == np.float32 and shown[0, 0] == 0 and np.all((shown >= 0) & (shown <= 1))
    x = 1 - np.exp(-0.5)
    assert abs(shown[0, 1] - (1.055 * x ** (1 / 2.4) - 0.055)) < 1e-6
    assert abs(tone_map([0.25], 2.0)[0] - shown[0, 1]) < 1e-6
