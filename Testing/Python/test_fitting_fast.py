"""The default preset on scenes that are known everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from fit_scenes import AXES, SAGITTAL, intensity, scan
from seeds import chosen_seed

import GaussianMRILib as gm
from GaussianMRILib.fitting.guess import Guesser
from GaussianMRILib.fitting.lattice import lattice_error, lattice_of_volume
from GaussianMRILib.fitting.steered import Effort
from GaussianMRILib.fitting.targets import VolumePlanes
from GaussianMRILib.volumes import Volume, volume_operator


@pytest.fixture(scope="module")
def stack():
    return scan()


@pytest.fixture(scope="module")
def field(stack):
    return gm.fit(stack, seed=0)


def oblique_plane(**changes):
    i = AXES[:, 0]
    j = AXES[:, 1] * np.cos(0.4) + AXES[:, 2] * np.sin(0.4)
    options = dict(spacing=(1.0, 1.0), shape=(40, 44)) | changes
    return gm.ImagePlane.from_axes((0.5, -0.5, 0.3), i, j, **options)


def error(image, plane):
    return float(np.sqrt(np.nanmean((image - intensity(plane.points())) ** 2)))


def test_oblique_plane_is_better_than_any_interpolation(stack, field):
    plane = oblique_plane()
    image = field.render(plane)
    assert image.shape == plane.shape and image.dtype == np.float32
    ours = error(image, plane)
    for other in (gm.linear_interpolation, gm.voxel_interpolation, gm.spline_interpolation):
        assert ours < 0.9 * error(other(stack, plane), plane), other.__name__


def test_effort_follows_the_distance_between_slices(stack):
    ratio = stack.spacing / stack.pixel_spacing[0]
    count = round(Effort.of([stack]).density * stack.pixels.size)
    cell = (stack.spacing * np.prod(stack.pixel_spacing) * stack.pixels.size / count) ** (1 / 3)
    assert ratio > 3 and cell == pytest.approx(stack.spacing / 2, rel=0.01)


def test_planes_of_a_volume_have_its_voxels_for_targets():
    affine = np.eye(4)
    affine[:3] = np.c_[AXES * [0.7, 0.8, 1.1], [10, -40, 7]]
    affine[:3, 2] += 0.2 * AXES[:, 0]  # a tilted gantry
    pixels = np.random.default_rng(0).uniform(20, 300, (9, 13, 11)).astype(np.float32)
    volume = Volume(pixels, affine)
    batch, target = VolumePlanes(volume, 20.0, 300.0, torch.device("cpu")).draw(slice(2, 7))
    assert batch.shapes.tolist() == [[13, 11]] * 5 and batch.weights.eq(1).all() and not batch.offsets.any()
    origin, i, j, normal = batch.frames.double().numpy().reshape(5, 4, 3).transpose(1, 0, 2)[:, :, None, None]
    rows, columns = np.mgrid[:13, :11][..., None]
    points = origin + columns * i + rows * j
    assert np.allclose(volume.values(points), 20 + 280 * target.numpy().reshape(5, 13, 11), atol=0.02)
    assert np.allclose(normal, AXES[:, 2], atol=1e-6)


def test_what_the_slices_say_is_kept(stack):
    guesser = Guesser(stack, "auto", 0.0, 1000.0, torch.device("cpu"), 0)
    guess = guesser.guess()
    noise = np.random.default_rng(0).normal(0, 50, guess.pixels.shape).astype(np.float32)
    changed = guesser.agree(replace(guess, pixels=guess.pixels + noise))
    _, operator = volume_operator(guess, stack)
    means = np.tensordot(operator, changed.pixels - guess.pixels, 1)
    assert np.abs(means).mean() < 0.15 * np.abs(np.tensordot(operator, noise, 1)).mean()


def test_nothing_is_shown_outside_the_slab(stack, field):
    beyond = stack.plane(len(stack.pixels) - 1).offset(stack.thickness / 2 + 0.1)
    assert np.isnan(field.render(beyond)).all()
    assert np.isfinite(field.render(beyond.offset(-0.2))).all()
    wide = gm.ImagePlane.from_axes((0, 0, 0), AXES[:, 0], AXES[:, 1], spacing=(1, 1), shape=(48, 80))
    finite = np.isfinite(field.render(wide))
    assert finite.any(axis=0).sum() == 56 and np.array_equal(finite, field.inside(wide.points()))


def test_bright_point_is_found_at_its_place():
    base = scan(noise=0)
    place = base.ijk_to_ras[6] @ [33, 20, 0, 1]
    pixels = np.full_like(base.pixels, 50)
    pixels[6, 20, 33] = 1000
    spot = gm.SliceStack.from_array(pixels, base.ijk_to_ras, thickness=4.0)
    plane = gm.ImagePlane.from_axes(place[:3], AXES[:, 0], AXES[:, 1], spacing=(0.25, 0.25), shape=(41, 41))
    image = np.nan_to_num(gm.fit(spot).render(plane) - 50).clip(min=0)
    weight = image * (image > 0.5 * image.max())
    centroid = (
        np.array([(weight.sum(0) * np.arange(41)).sum(), (weight.sum(1) * np.arange(41)).sum()])
        / weight.sum()
    )
    assert np.abs(centroid - 20).max() * 0.25 < 0.1  # mm: a tenth of an acquired pixel


def test_same_seed_same_field(stack, threads):
    small = stack.subset(np.arange(8))
    fields = []
    for count, seed in ((1, 3), (1, 3), (2, 3), (1, 4)):
        threads(count)
        fields.append(gm.fit(small, seed=seed))
    assert torch.equal(fields[0].lattice.nodes, fields[1].lattice.nodes)
    plane = oblique_plane()
    a, b = fields[0].render(plane), fields[2].render(plane)
    assert np.sqrt(np.nanmean((a - b) ** 2)) < 1.0  # of about 800: the order of sums, nothing else
    assert not torch.equal(fields[0].lattice.nodes, fields[3].lattice.nodes)


def test_rigid_motion_of_everything_changes_nothing(stack, field):
    from scipy.spatial.transform import Rotation

    move = np.eye(4)
    move[:3, :3] = Rotation.from_euler("xyz", [0.7, -0.4, 1.9]).as_matrix()
    move[:3, 3] = [35, -80, 210]
    moved = gm.SliceStack.from_array(stack.pixels, move @ stack.ijk_to_ras, thickness=stack.thickness)
    plane = oblique_plane()
    a, b = field.render(plane), gm.fit(moved, seed=0).render(plane.transformed(move))
    assert np.array_equal(np.isnan(a), np.isnan(b))
    assert np.sqrt(np.nanmean((a - b) ** 2)) < 5.0  # of about 800; Adam steps along the axes of RAS


def test_progress_cancel_and_report(stack):
    fitter = gm.Fitter(stack)
    with pytest.raises(gm.GaussianMRIError, match="before it had a field"):
        _ = fitter.field
    seen = []
    for progress in fitter:
        seen.append(progress)
        if progress.stage == "fitting to slices":
            break
    assert [p.fraction for p in seen] == sorted(p.fraction for p in seen)
    early = fitter.field.render(oblique_plane())
    assert np.isfinite(early).mean() > 0.9 and error(early, oblique_plane()) < 200
    stopped = gm.fit(stack, progress=lambda p: p.stage != "fitting to slices")
    assert len(stopped) == len(fitter.field)


def test_held_out_slices_are_reported(field):
    held = field.report["held_out"]
    assert (
        held["slices"] >= 2
        and held["psnr_db"] >= held["prior_psnr_db"]
        and held["psnr_db"] > held["spline_psnr_db"]
    )
    assert 0 <= field.report["blend"] <= 0.6


def test_confidence_maps(stack, field):
    on_slice = stack.plane(5)
    assert field.distance_to_slices(on_slice).max() < 1e-3
    between = on_slice.offset(2.0)
    assert np.allclose(field.distance_to_slices(between), 2.0, atol=1e-3)
    support = field.support(between)
    assert (support > 0.1).mean() > 0.95
    far = between.offset(400)
    assert (field.support(far) == 0).all()
    assert np.allclose(field.distance_to_slices(far).min(), 400 + 2 - 4 * 6, atol=0.1)


@pytest.mark.slow
def test_two_stacks_are_better_than_one():
    plane = oblique_plane()
    axial = scan(slices=12, side=(48, 56))
    sagittal = scan(slices=13, side=(48, 48), axes=SAGITTAL, seed=1)
    alone = error(gm.fit(axial).render(plane), plane)
    both = error(gm.fit([axial, sagittal]).render(plane), plane)
    assert both < 0.85 * alone


def test_region_of_interest(stack):
    box = ((-8, 10), (-9, 9), (-10, 9))
    field = gm.fit(stack, roi=box)
    assert len(field) < 0.5 * 2 * stack.pixels.size
    assert field.inside([0.0, 0.0, 0.0]) and not field.inside([0.0, 0.0, 22.0])
    with pytest.raises(gm.GaussianMRIError, match="region of interest"):
        gm.fit(stack, roi=((500, 510), (0, 9), (0, 9)))


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(preset="quick"), "no preset"),
        (dict(device="tpu"), "no device"),
        (dict(prior="oracle"), "no prior"),
        (dict(colour="red"), "has no option .colour."),
        (dict(roi=((0, 1), (2, 3))), "region of interest"),
    ],
)
def test_impossible_requests_are_explained(stack, options, message):
    with pytest.raises(gm.GaussianMRIError, match=message):
        gm.fit(stack, **options)


def test_input_that_cannot_be_fitted(stack):
    with pytest.raises(gm.GaussianMRIError, match="no stacks"):
        gm.fit([])
    with pytest.raises(gm.GaussianMRIError, match="One slice"):
        gm.fit(stack.subset([3]))
    flat = gm.SliceStack.from_array(np.full((5, 20, 20), 7.0), np.diag([1, 1, 4, 1.0]))
    with pytest.raises(gm.GaussianMRIError, match="All pixels have the value 7"):
        gm.fit(flat)
    from dataclasses import replace

    with pytest.raises(gm.GaussianMRIError, match="frames of reference"):
        gm.fit([replace(stack, frame_of_reference="1.2.3"), replace(stack, frame_of_reference="1.2.4")])


@pytest.mark.parametrize("slices", [2, 3, 5])
def test_few_slices(slices):
    field = gm.fit(scan(slices=slices, side=(20, 24)))
    assert np.isfinite(field.render(scan(slices=slices, side=(20, 24)).plane(0))).all()


@pytest.mark.slow
def test_gaps_shear_and_fans_are_fitted_in_place():
    whole = scan(slices=12)
    gapped = whole.subset([0, 1, 2, 3, 5, 6, 7, 8, 9, 11])
    poses = whole.ijk_to_ras.copy()
    centre = poses[:, :3, 3].mean(axis=0)
    fan = []
    for k, pose in enumerate(
        poses
    ):  # slices turned by a degree each about a common axis, as around lumbar discs
        angle = np.deg2rad(1.0 * (k - 5.5))
        turn = np.eye(4)
        c, s = np.cos(angle), np.sin(angle)
        turn[:3, :3] = AXES @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ AXES.T
        turn[:3, 3] = centre - turn[:3, :3] @ centre
        fan.append(turn @ pose)
    fan = np.stack(fan)
    k, j, i = np.meshgrid(np.arange(12), np.arange(48), np.arange(56), indexing="ij")
    index = np.stack([i, j, 0 * k, 1 + 0 * k], -1)[..., None]
    points = (fan[:, None, None] @ index)[..., :3, 0]
    normals = fan[:, :3, 2][:, None, None]
    pixels = np.mean([intensity(points + o * 4 * normals) for o in (-0.375, -0.125, 0.125, 0.375)], axis=0)
    fanned = gm.SliceStack.from_array(pixels, fan, thickness=4.0)
    plane = oblique_plane()
    for stack in (gapped, fanned):
        ours = error(gm.fit(stack).render(plane), plane)
        assert ours < error(gm.linear_interpolation(stack, plane), plane)


def test_lattice_holds_a_volume_by_itself():
    rng = np.random.default_rng(chosen_seed())
    z, y, x = np.meshgrid(np.arange(24), np.arange(30), np.arange(28), indexing="ij")
    volume = 0.5 + 0.4 * np.sin(z / 3 + x / 2.5 + rng.uniform(0, 6)) * np.cos(y / 3)
    volume[:, :, :9] = 0.2  # a step is the worst that a lattice has to hold
    affine = np.array([[0, 0, 1.2, 5], [0.8, 0, 0.1, -7], [0, 0.9, 0, 3], [0, 0, 0, 1]])
    prior = Volume((100 + 50 * volume).astype(np.float32), affine)
    for depth, bound in ((1, 0.003), (2, 0.02), (3, 0.06)):
        lattice = lattice_of_volume(prior, 100.0, 150.0, depth)
        assert np.allclose(lattice.pitch, (0.8, 0.9, np.hypot(1.2, 0.1) * depth))
        assert lattice_error(lattice, prior, 100.0, 150.0, step=1) < bound


MEASURED = """
import re
import numpy as np
from GaussianMRILib import Fitter, SliceStack
from GaussianMRILib.fitting.memory import needed_bytes

def memory(name):  # getrusage counts what the parent had when it started this process
    with open("/proc/self/status") as file:
        return 1024 * int(re.search(name + r":\\s+(\\d+) kB", file.read())[1])

before = memory("VmRSS")
for side in (80, 200):
    pixels = np.random.default_rng(0).random((4, side, side), np.float32)
    stack = SliceStack.from_array(pixels, np.diag([1.0, 1.0, 4.0, 1.0]), thickness=4.0)
    for report in Fitter(stack, gaussians=50, passes=1, blend=0.5):
        pass
    print(memory("VmHWM") - before, needed_bytes([stack]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured in Linux's way")
def test_the_memory_that_is_stated_is_the_one_that_is_taken():
    """Of small scans it is what the network holds of a tile, many times their volumes."""
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "avx2"}  # with matrix units it would be half
    command = [sys.executable, "-c", MEASURED]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    (small, said_small), (large, said_large) = (map(int, line.split()) for line in result.stdout.splitlines())
    assert 0.5 * said_small < small < 1.2 * said_small
    assert 0.7 * said_large < large < 1.2 * said_large
    assert large > 1.8 * small
