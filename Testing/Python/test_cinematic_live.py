"""Pictures of a volume at once: one call, the command, and a picture that is refined while nothing moves."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from click.testing import CliRunner, Result
from PIL import Image
from trace_scenes import affine, blob, plain

from GaussianMRILib import GaussianMRIError
from GaussianMRILib.cinematic import live as live_module
from GaussianMRILib.cinematic.camera import Camera
from GaussianMRILib.cinematic.clip import ClipPlane, combined
from GaussianMRILib.cinematic.denoise import blurred
from GaussianMRILib.cinematic.live import FADE, LivePicture
from GaussianMRILib.cinematic.looks import default_look
from GaussianMRILib.cinematic.model import CinematicModel
from GaussianMRILib.cinematic.picture import render_picture
from GaussianMRILib.cinematic.splats import SH_C0, Splats
from GaussianMRILib.cinematic.tracer import PathTracer, Render
from GaussianMRILib.cli import main

DENSE = plain(0.9, (0.9, 0.5, 0.2))


def finish(live: LivePicture, most: int = 10_000) -> np.ndarray:
    for _ in range(most):
        live.refine(patience=0.01)
        if live.finished and live.ready:
            picture = live.picture()
            assert picture is not None
            return picture
    raise AssertionError(f"{live.done} of {live.samples} samples after {most} steps")


def scene(**options: object) -> LivePicture:
    return LivePicture(blob() + 0.2, affine(shape=(20, 24, 28)), DENSE, denoised=False, **options)


# ---- the refined picture


def test_the_finished_picture_is_the_path_tracer_s() -> None:
    live = scene(samples=64)
    camera = live.camera(azimuth=40, size=(72, 56))
    live.look(camera)
    picture = finish(live)
    tracer = PathTracer(blob() + 0.2, affine(shape=(20, 24, 28)), DENSE)
    expected = tracer.render(camera, samples=64, seed=5)
    other = tracer.render(camera, samples=64, seed=9)
    # Its bands have random numbers of their own, so it differs by noise: as much as two seeds do, and not on the whole.
    noise = float(np.sqrt(((other.image - expected.image) ** 2).mean()))
    assert 0.7 * noise < float(np.sqrt(((picture - expected.image) ** 2).mean())) < 1.3 * noise
    assert picture.mean() == pytest.approx(expected.image.mean(), rel=0.01)


def test_bands_of_rows_see_what_the_whole_picture_sees() -> None:
    tracer = PathTracer(blob() + 0.2, affine(shape=(20, 24, 28)), DENSE)
    camera = tracer.camera(azimuth=30, elevation=20, size=(40, 48))
    sums = tracer.blank(camera)
    for low in range(0, 48, 16):
        tracer.add_samples(sums, camera, (), first=0, count=48, rows=(low, low + 16))
    assert torch.all(sums[16:32, :, 3].sum() > 0)
    whole = tracer.render(camera, samples=48)
    parts = tracer.resolve(sums, 48)
    for name in ("depth", "alpha"):
        ours, expected = getattr(parts, name), getattr(whole, name)
        inside = whole.alpha > 0.99
        assert np.abs(ours - expected)[inside].mean() < 0.02 * expected[inside].mean()
    # A band that repeated the first one's numbers would have its noise.
    flat = PathTracer(np.ones((8, 8, 8)), np.diag([4.0, 4.0, 4.0, 1.0]), plain(0.9, (0.5, 0.5, 0.5)))
    view = flat.camera(azimuth=0, elevation=0, size=(16, 32), zoom=6.0)
    two = flat.blank(view)
    for low in (0, 16):
        flat.add_samples(two, view, (), first=0, count=1, rows=(low, low + 16))
    assert not torch.allclose(two[:16, :, :3], two[16:, :, :3])


def test_a_movement_ends_the_refinement_and_starts_it_anew() -> None:
    live = scene(samples=16)
    live.look(live.camera(azimuth=0, size=48))
    first = finish(live)
    assert live.done == 16
    moved = live.look(live.camera(azimuth=90, size=48))
    assert live.done == 0 and not live.finished and live.picture() is moved
    second = finish(live)
    assert live.done == 16 and np.abs(second - first).mean() > 0.01
    version = live.version
    assert not live.refine(patience=0.01) and live.version == version  # there is nothing left to do


def test_a_band_that_was_under_way_is_not_shown_for_another_view() -> None:
    live = scene(samples=FADE)
    camera = live.camera(azimuth=0, size=48)
    live.look(camera)
    time.sleep(live_module.REST)
    live._add_band()
    old = live._refinement
    assert old is not None
    new = live.look(live.camera(azimuth=90, size=48))
    old.done = FADE
    live._publish(old)
    assert live.picture() is new and live.done == 0


def test_the_refined_picture_fades_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "REST", 0.0)
    live = scene(samples=2 * FADE)
    camera = live.camera(azimuth=20, size=64)
    base = live._tracer.resolve(live._tracer.blank(camera), 1).image + np.float32(1.0)
    live.look(camera)
    live._base = base  # white, as no traced picture is
    shown = []
    version = live.version
    while not live.finished:
        live.refine(patience=0.01)
        if live.version != version:
            version = live.version
            picture = live.picture()
            assert picture is not None
            shown.append((live.done, float(picture[0, 0, 0])))  # a corner, where nothing but the base is seen
    assert [done for done, _ in shown[:FADE]] == list(range(1, FADE + 1))
    for done, value in shown:
        assert value == pytest.approx(1 - min(1, done / FADE), abs=1e-6)


def test_a_picture_of_a_movement_takes_no_longer_than_it_may() -> None:
    live = scene(budget=0.05)
    camera = live.camera(size=1024)
    live._cost = 2e-5  # s for a path, of a slow computer
    few = live.look(camera).shape[0]
    assert few == pytest.approx(np.sqrt(0.05 / 2e-5 / live_module.MOVING_SAMPLES), abs=1)
    live._cost = 1e-7
    live.budget = 0.02
    many = live.look(camera).shape[0]
    assert many > 4 * few
    assert many == pytest.approx(np.sqrt(0.02 / 1e-7 / live_module.MOVING_SAMPLES), abs=1)
    assert live._cost > 1e-7  # it was measured


def test_a_large_volume_is_shown_at_once_and_whole_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "FIRST_VOXELS", 2_000)
    values, matrix = blob((20, 48, 56)) + 0.2, affine((0.5, 0.5, 1.0), (20, 48, 56))
    live = LivePicture(values, matrix, DENSE, samples=4, denoised=False)
    assert not live.ready and live._tracer._volume.values.numel() <= 2_000
    spacing = np.linalg.norm(live._tracer._volume.ijk_to_ras[:3, :3], axis=0)
    assert spacing.max() / spacing.min() < 1.6
    whole = PathTracer(values, matrix, DENSE)
    camera = whole.camera(azimuth=30, elevation=10, size=48)
    coarse = live.look(camera)
    finish(live)
    assert live.ready and live._tracer._volume.values.shape == values.shape
    expected = whole.render(camera, samples=64).image
    assert coarse.mean() == pytest.approx(expected.mean(), rel=0.1)  # the same extinction per mm


def test_opacity_by_voxels_stays_the_same_with_fewer_voxels() -> None:
    """Without a unit distance opacities are of a voxel, and gradients are changes from voxel to voxel."""
    import dataclasses

    ramp = np.broadcast_to(np.linspace(0, 1, 65), (33, 33, 65)).astype(np.float32)
    transfer = dataclasses.replace(
        DENSE.transfer, unit_distance=None, gradient_opacity=[[0.0, 0.0], [1 / 32, 1.0]]
    )
    look = dataclasses.replace(DENSE, transfer=transfer)
    matrix = np.diag([0.5, 0.5, 0.5, 1.0])
    fine = PathTracer(ramp, matrix, look)._volume
    coarse = live_module._thinned((2, 2, 2), ramp, matrix, look, None, "cpu")._volume
    table = fine.table.numpy(), coarse.table.numpy()
    np.testing.assert_allclose(table[0][4095], table[1][4095], rtol=1e-3)
    factors = [t[-256:][int(np.median(v.gradients.numpy()))] for t, v in zip(table, (fine, coarse), strict=True)]
    assert factors[0] == pytest.approx(0.5, abs=0.05) and factors[1] == pytest.approx(factors[0], abs=0.02)


def ball(center: tuple[float, float, float] = (5.0, -3.0, 8.0), unit: float = 16.0) -> CinematicModel:
    sh = (torch.tensor([[0.0, 0.0, 1.0]])[:, None, :] - 0.5) / SH_C0
    splats = Splats(
        torch.tensor([center]), torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.full((1, 3), float(np.log(6.0))), sh,
        torch.full((1,), 8.0),
    )  # fmt: skip
    return CinematicModel(splats, np.array(center), unit)


def test_splats_move_and_paths_rest() -> None:
    live = scene(model=ball(), samples=8)
    camera = live.camera(azimuth=0, size=40)
    moving = live.look(camera)
    assert moving.shape == (40, 40, 3) and moving[20, 20, 2] > 0.9 > 0.1 > moving[20, 20, 0]
    rest = finish(live)
    assert rest[20, 20, 0] > rest[20, 20, 2]  # the volume's own colour
    across = ClipPlane.from_point(live.centre, (1, 0, 0)), ClipPlane.from_point(live.centre, (0, 0, 1))
    blue = live.look(camera, clips=across)[..., 2]
    assert blue[20:26, 20:26].min() > 0.15 > 0.1 > max(blue[:16].max(), blue[:, :16].max())  # low and left is left
    assert live.look(camera, clips=combined(across, "intersection"))[..., 2].max() < 0.9  # no splats


def test_a_model_of_another_place_is_refused() -> None:
    with pytest.raises(GaussianMRIError, match="another place"):
        scene(model=ball((500.0, 0.0, 0.0)))


def test_planes_that_leave_nothing_are_known() -> None:
    live = scene()
    camera = live.camera(size=40)
    live.look(camera)
    assert not live.nothing
    live.look(camera, clips=[ClipPlane.from_point(live.centre - 100, (0, 0, 1))])
    assert live.nothing


def test_the_blur_keeps_light_and_takes_noise() -> None:
    tracer = PathTracer(np.ones((12, 12, 12)), np.diag([4.0, 4.0, 4.0, 1.0]), plain(0.9, (0.5, 0.5, 0.5)))
    camera = tracer.camera(azimuth=0, elevation=0, size=64, zoom=4.0)
    noisy = tracer.render(camera, samples=2)
    clean = tracer.render(camera, samples=256)
    smooth = blurred(noisy)
    inside = slice(16, 48), slice(16, 48)
    before, after = (np.abs(r.radiance - clean.radiance)[inside].mean() for r in (noisy, smooth))
    assert after < 0.5 * before
    assert smooth.radiance[inside].mean() == pytest.approx(clean.radiance[inside].mean(), rel=0.05)


# ---- one picture


def test_one_call_makes_what_the_tracer_does() -> None:
    values, matrix = blob() + 0.2, affine(shape=(20, 24, 28))
    cut = ClipPlane.from_point((5, -3, 8), (1, 0, 0))
    found = render_picture(
        values, matrix, look=DENSE, clips=[cut], size=40, samples=8, azimuth=10, elevation=5, zoom=1.5, denoised=False,
        background=(0, 0, 1),
    )  # fmt: skip
    tracer = PathTracer(values, matrix, DENSE)
    expected = tracer.render(
        tracer.camera(azimuth=10, elevation=5, size=40, zoom=1.5),
        clips=[cut],
        samples=8,
        background=(0, 0, 1),
    )
    np.testing.assert_allclose(found.image, expected.image, atol=1e-6)
    assert found.samples == 8


@pytest.mark.parametrize("size", [(48, 48), (64, 40), (30, 60)])
def test_without_a_zoom_all_is_seen_and_no_picture_is_nearer_than_usual(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[Camera] = []
    original = PathTracer.render

    def render(tracer: PathTracer, camera: Camera, **options: Any) -> Render:
        used.append(camera)
        return original(tracer, camera, **options)

    monkeypatch.setattr(PathTracer, "render", render)
    options = {"size": size, "samples": 2, "azimuth": 0, "elevation": 0, "denoised": False}

    def reach(zoom: float | None, *ends: int) -> float:
        """How far the ends of a block come from the middle of the picture towards its edges."""
        values = np.zeros(np.array(ends)[::-1] + 8, np.float32)
        values[4:-4, 4:-4, 4:-4] = 1
        render_picture(values, np.eye(4), look=DENSE, zoom=zoom, **options)
        camera = used[-1]
        corners = 3.5 + np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * ends
        return float(np.abs(camera.project(corners)[0] / [camera.cx, camera.cy] - 1).max())

    for ends in ((80, 8, 8), (8, 8, 80)):
        assert 0.75 < reach(None, *ends) < 1
    if size[0] == size[1]:
        assert reach(1.3, 80, 8, 8) > 1.2
    if size[0] >= size[1]:
        assert reach(None, 30, 30, 30) == reach(1.3, 30, 30, 30)
        rod = np.zeros((24, 96, 24), np.float32)
        rod[10:14, 4:-4, 10:14] = 1
        end = ClipPlane.from_point((0, 12, 0), (0, 1, 0))  # what it leaves lies far behind the middle
        eyes = []
        for zoom in (None, 1.3):
            render_picture(rod, np.eye(4), look=DENSE, clips=[end], zoom=zoom, **options)
            eyes.append(used[-1].eye)
        assert np.array_equal(*eyes)


def test_left_handed_and_sheared_volumes_show_the_same_body() -> None:
    """A ball sampled on three grids: its outline in the picture is the same circle."""
    masks = []
    grids = [np.diag([1.0, 1.0, 1.5, 1.0]), np.diag([-1.0, 1.0, 1.5, 1.0]), np.diag([1.0, 1.0, 1.5, 1.0])]
    grids[2][0, 2] = 0.5  # slices that slide sideways
    for grid in grids:
        grid[:3, 3] = -grid[:3, :3] @ np.array([29.5, 29.5, 19.5])
        k, j, i = np.indices((40, 60, 60))
        ras = np.stack([i, j, k], axis=-1) @ grid[:3, :3].T + grid[:3, 3]
        away = np.linalg.norm(ras - (4.0, 0.0, 3.0), axis=-1)
        tracer = PathTracer((away < 12).astype(np.float32), grid, plain(0.99))
        camera = live_camera()
        masks.append(tracer.render(camera, samples=16).alpha)
    side = 2 * 100 * np.tan(np.radians(15))  # mm that the picture covers at the ball's middle
    assert np.sqrt(masks[0].mean() / np.pi) * side == pytest.approx(12 + 1.2, abs=0.6)
    # Opaque from half a voxel outside, and averaging over a voxel reaches half a voxel further.
    for mask in masks[1:]:
        assert np.abs(mask - masks[0]).mean() < 0.02


def live_camera() -> Camera:
    return Camera.look_at((4.0, 100.0, 3.0), (4.0, 0.0, 3.0), size=64)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros((6, 6, 6, 3)), "3 values in each voxel"),
        (np.full((6, 6, 6), 400.0), "one value only"),
        (np.full((6, 6, 6), np.nan), "one value only"),
        (np.zeros((6, 6)), "three axes"),
    ],
)
def test_volumes_without_a_picture_are_refused(values: np.ndarray, words: str) -> None:
    with pytest.raises(GaussianMRIError, match=words):
        render_picture(values, np.eye(4), look=DENSE)
    with pytest.raises(GaussianMRIError, match=words):
        LivePicture(values, np.eye(4), DENSE)


def test_planes_and_regions_that_leave_nothing_are_refused() -> None:
    values, matrix = blob() + 0.2, affine(shape=(20, 24, 28))
    beyond = ClipPlane(np.array([0.0, 0, 1]), -500.0)
    with pytest.raises(GaussianMRIError, match="leaves nothing of the volume"):
        render_picture(values, matrix, look=DENSE, clips=[beyond], size=16, samples=1)
    apart = [ClipPlane(np.array([0.0, 0, 1]), 0.0), ClipPlane(np.array([0.0, 0, -1]), -16.0)]  # below 0, above 16
    with pytest.raises(GaussianMRIError, match="planes leave nothing"):
        render_picture(values, matrix, look=DENSE, clips=apart, size=16, samples=1)
    with pytest.raises(GaussianMRIError, match="outside"):
        render_picture(values, matrix, look=DENSE, roi=((500, 500, 500), (510, 510, 510)), size=16, samples=1)
    with pytest.raises(GaussianMRIError, match="At most"):
        render_picture(values, matrix, look=DENSE, clips=[ClipPlane(np.array([0.0, 0, 1]), 8.0)] * 19, size=16, samples=1)


def test_the_look_follows_the_modality() -> None:
    assert default_look(np.array([-1000.0, 900.0])) == "CT bone"
    assert default_look(np.array([0, 900])) == "MR head"
    assert default_look(np.array([0, 900]), "CT") == "CT bone"
    assert default_look(np.array([-1000, 900]), "MR") == "MR head"


# ---- the command


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ball of bone in air, 1.5 mm voxels, as NIfTI."""
    k, j, i = np.indices((24, 24, 24)) - 11.5
    image = sitk.GetImageFromArray(np.where(np.sqrt(i**2 + j**2 + k**2) < 9, 900, -1000).astype(np.int16))
    image.SetSpacing((1.5, 1.5, 1.5))
    image.SetOrigin((-17.25, -17.25, -17.25))
    path = tmp_path_factory.mktemp("volume") / "ball.nii.gz"
    sitk.WriteImage(image, str(path))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["cinematic", "picture", *map(str, arguments)], catch_exceptions=False)


SMALL = ("--size", 48, 40, "--samples", 16, "--no-denoise", "-q")


def test_the_command_writes_the_picture(file: Path, tmp_path: Path) -> None:
    whole, corner = tmp_path / "whole.png", tmp_path / "corner.png"
    done = run(file, "-o", whole, *SMALL)
    assert done.exit_code == 0, done.output
    assert "CT bone" in done.output and "16 per pixel" in done.output
    pixels = np.asarray(Image.open(whole)).astype(int)
    assert pixels.shape == (40, 48, 3) and pixels[20, 24].min() > 60 and pixels[0, 0].max() == 0
    facing = ("--azimuth", 0, "--elevation", 0)
    assert run(file, "-o", whole, *SMALL, *facing).exit_code == 0
    assert run(file, "-o", corner, *SMALL, *facing, "--clip", 1, 0, 0, 0, "--clip", 0, 0, 1, 0).exit_code == 0
    pixels, cut = (np.asarray(Image.open(path)).sum(axis=-1) > 60 for path in (whole, corner))
    # From the front: patient's right on the left. What is to the right and above is kept away.
    assert cut[:18].sum() == 0 and cut[22:, :22].sum() == 0
    assert cut[22:, 26:].sum() == pytest.approx(pixels[22:, 26:].sum(), rel=0.1)


def test_a_plane_of_a_markups_file_cuts(file: Path, tmp_path: Path) -> None:
    plane = tmp_path / "cut.mrk.json"
    markup = {
        "type": "Plane", "coordinateSystem": "RAS", "center": [0, 0, 0], "normal": [0, 0, 1],
        "controlPoints": [
            {"position": [0, 0, 0]}, {"position": [1, 0, 0]}, {"position": [0, 1, 0]}
        ],
    }  # fmt: skip
    plane.write_text(json.dumps({"markups": [markup]}), encoding="utf-8")
    facing = ("--azimuth", 0, "--elevation", 0)
    done = run(file, "-o", tmp_path / "a.png", *SMALL, *facing, "--plane", plane)
    assert done.exit_code == 0, done.output
    assert run(file, "-o", tmp_path / "b.png", *SMALL, *facing, "--clip", 0, 0, 1, 0).exit_code == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_bad_input_is_a_sentence_and_writes_nothing(file: Path, tmp_path: Path) -> None:
    output = tmp_path / "x.png"
    colour = tmp_path / "colour.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True), str(colour))
    flat = tmp_path / "flat.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(np.full((6, 6, 6), 300, np.int16)), str(flat))
    for arguments, words in (
        ((colour,), "3 values in each voxel"),
        ((flat, "--look", "CT bone"), "one value only"),
        ((file, "--clip", 0, 0, 1, -500), "leaves nothing"),
        ((file, "--roi", 900, 910, 0, 10, 0, 10), "outside"),
        ((file, "--look", "nobody's"), "no look"),
        ((tmp_path / "none.nii.gz",), "none.nii.gz"),
    ):
        done = run(*arguments, "-o", output, *SMALL)
        assert done.exit_code == 1 and words in done.output, (arguments, done.output)
        assert not output.exists()
    assert "must end in .png" in run(file, "-o", tmp_path / "x.jpg", *SMALL).output


def test_a_command_that_is_called_off_leaves_nothing(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(PathTracer, "add_samples", stop)
    done = run(file, "-o", tmp_path / "x.png", *SMALL)
    assert done.exit_code == 130 and "Cancelled" in done.output and list(tmp_path.iterdir()) == []
