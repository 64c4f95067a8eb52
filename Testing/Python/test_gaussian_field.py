"""The field as an object: its numbers, its file, its rendering against the definition."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from fit_scenes import scan
from seeds import chosen_seed

import GaussianMRILib as gm


def random_field(count: int = 60, **changes):
    rng = np.random.default_rng(chosen_seed())
    parameters = np.zeros((11, count), np.float32)
    parameters[0:3] = rng.uniform(-8, 8, (3, count))
    parameters[[3, 6, 8]] = rng.uniform(0.2, 0.6, (3, count))
    parameters[[4, 5, 7]] = rng.uniform(-0.1, 0.1, (3, count))
    parameters[9] = rng.uniform(0, 1, count)
    parameters[10] = rng.uniform(0.2, 2, count)
    stack = scan(slices=5, side=(16, 16))
    options = dict(
        parameters=torch.from_numpy(parameters),
        offset=30.0,
        scale=500.0,
        hulls=(stack.hull(),),
        slice_poses=stack.ijk_to_ras,
        slice_shapes=np.array([stack.shape[1:]] * 5, np.int32),
        frame_of_reference="1.2.840.1",
        report={"preset": "fast", "seed": 1},
    )
    return gm.GaussianField(**(options | changes))


def definition(field, points):
    """Eqs. 1-2 of the paper, in float64, from the public arrays."""
    inverse = np.linalg.inv(field.covariances)
    difference = points[:, None] - field.means[None].astype(float)
    q = np.einsum("pna,nab,pnb->pn", difference, inverse, difference)
    weight = np.where(q < field.cut, field.opacities * np.exp(-q / 2), 0)
    return field.offset + field.scale * (weight @ field.colours) / (weight.sum(1) + field.background)


def test_rendering_is_the_definition():
    field = random_field()
    plane = gm.ImagePlane.from_axes(
        (0.3, 0.1, -0.2), (1, 0.2, 0), (0, 0, 1), spacing=(0.7, 0.9), shape=(11, 13)
    )
    image, expected = field.render(plane), definition(field, plane.points().reshape(-1, 3)).reshape(11, 13)
    inside = field.inside(plane.points())
    assert np.isnan(image[~inside]).all() and inside.any()
    # A pixel within rounding of a Gaussian's edge may fall on either side of it: compare all but the rarest.
    difference = np.abs(image - expected)[inside]
    assert np.quantile(difference, 0.95) < 0.05


def test_thick_plane_is_the_mean_over_its_thickness():
    field = random_field(400)
    plane = gm.ImagePlane.from_axes(
        (0, 0, 0), (1, 0, 0), (0, 1, 0), spacing=(1, 1), shape=(8, 8), thickness=4.0
    )
    parts = [field.render(gm.ImagePlane(plane.offset(o).ijk_to_ras, plane.shape)) for o in (-1.75, 0, 1.75)]
    expected = 0.275 * parts[0] + 0.45 * parts[1] + 0.275 * parts[2]
    assert np.nanmax(np.abs(field.render(plane) - expected)) < 0.01


def test_save_and_load_are_exact(tmp_path):
    field = random_field()
    path = tmp_path / "knee.field"
    field.save(path)
    again = gm.GaussianField.load(path)
    assert torch.equal(field.parameters, again.parameters)
    assert again.report == field.report and again.frame_of_reference == "1.2.840.1"
    plane = gm.ImagePlane.from_axes((0, 0, 0), (1, 0, 0), (0, 1, 0), shape=(20, 20))
    assert np.array_equal(field.render(plane), again.render(plane), equal_nan=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["knee.field"]


def test_file_is_readable_without_the_library(tmp_path):
    field = random_field()
    field.save(tmp_path / "f.npz")
    with np.load(tmp_path / "f.npz") as stored:
        header = json.loads(str(stored["header"]))
        assert header["format"] == "GaussianMRI field" and header["version"] == 1
        assert stored["means"].shape == (60, 3) and stored["factors"].shape == (60, 6)
        m = np.zeros((60, 3, 3))
        m[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]] = stored["factors"]
        assert np.allclose(np.linalg.inv(m.transpose(0, 2, 1) @ m), field.covariances, rtol=1e-3, atol=1e-3)


def test_files_of_version_1_load(tmp_path):
    field = random_field()
    header = dict(
        format="GaussianMRI field", version=1, model="", offset=30.0, scale=500.0, background=1e-4, cut=7.5,
        frame_of_reference=None, report={},
    )  # fmt: skip
    np.savez_compressed(
        tmp_path / "old.npz", header=np.array(json.dumps(header)), means=field.means, factors=field.factors,
        colours=field.colours, opacities=field.opacities, slice_poses=field.slice_poses,
        slice_shapes=field.slice_shapes, hull0=field.hulls[0], hull1=field.hulls[0] - [0, 0, 0, 1],
    )  # fmt: skip
    again = gm.GaussianField.load(tmp_path / "old.npz")
    assert torch.equal(again.parameters, field.parameters) and again.lattice is None and again.cut == 7.5
    assert len(again.hulls) == 2 and np.array_equal(again.hulls[0], field.hulls[0])


@pytest.mark.parametrize("spacing", [[], "4", None, -1.0, float("inf")])
def test_a_report_without_a_distance_between_slices_is_refused(tmp_path, spacing):
    random_field(report={"stacks": [{"name": "axial", "spacing_mm": 4.0}]}).save(tmp_path / "f.npz")
    gm.GaussianField.load(tmp_path / "f.npz")
    random_field(report={"stacks": [{"name": "axial", "spacing_mm": spacing}]}).save(tmp_path / "f.npz")
    with pytest.raises(gm.GaussianMRIError, match=r"f\.npz.*distance between the slices of 'axial'"):
        gm.GaussianField.load(tmp_path / "f.npz")
    random_field(report={"stacks": [{"name": "axial", "series": [spacing]}]}).save(tmp_path / "f.npz")
    with pytest.raises(gm.GaussianMRIError, match=r"f\.npz.*series is no text"):
        gm.GaussianField.load(tmp_path / "f.npz")


def bright_at(point):
    """A field of one bright narrow Gaussian on a dark ground; the ground is the background's black."""
    field = random_field(1)
    parameters = field.parameters.clone()
    parameters[0:3, 0] = torch.tensor(point)
    parameters[3:9, 0] = torch.tensor([0.6, 0, 0, 0.6, 0, 0.6])
    parameters[9:11, 0] = torch.tensor([1.0, 1e-4])  # about as light as the background: an image of its own shape
    return random_field(1, parameters=parameters, offset=0.0)


@pytest.mark.parametrize("axes", ["first", "ras"])
def test_a_volume_is_in_its_place(axes):
    field = random_field(200)
    voxels, ijk_to_ras = field.volume(spacing=0.8, axes=axes)
    steps = ijk_to_ras[:3, :3]
    assert np.allclose(steps.T @ steps, 0.64 * np.eye(3), atol=1e-12) and np.linalg.det(steps) > 0
    if axes == "ras":
        assert np.array_equal(steps, 0.8 * np.diag([-1, -1, 1]))
    else:
        pose = field.slice_poses[0]
        assert np.allclose(steps[:, :2] / 0.8, pose[:3, :2] / np.linalg.norm(pose[:3, :2], axis=0))
    k, j, i = np.meshgrid(*map(np.arange, voxels.shape), indexing="ij")
    places = np.stack([i, j, k], -1) @ steps.T + ijk_to_ras[:3, 3]
    inside = np.isfinite(voxels)
    assert (inside == field.inside(places)).mean() > 0.999  # a voxel on the border may fall on either side
    some = np.argwhere(inside)[::97]
    values, expected = voxels[tuple(some.T)], definition(field, places[tuple(some.T)])
    assert np.quantile(np.abs(values - expected), 0.95) < 0.05
    # Nothing that was scanned lies beyond the volume.
    from GaussianMRILib.geometry import hull_corners

    at = (hull_corners(field.hulls[0]) - ijk_to_ras[:3, 3]) @ np.linalg.inv(steps).T
    assert (at > -1 - 1e-6).all() and (at < np.array(voxels.shape[::-1]) + 1e-6).all()


def test_a_volume_has_the_pixels_of_the_first_slice():
    field = random_field()
    voxels, ijk_to_ras = field.volume()  # without a lattice, the slices' pixels: 1 mm
    assert voxels.shape[1:] == (16, 16)
    away = (field.slice_poses[0, :3, 3] - ijk_to_ras[:3, 3]) @ ijk_to_ras[:3, :3]
    assert np.allclose(away, away.round(), atol=1e-9) and np.allclose(away[:2], 0, atol=1e-9)


def test_a_volume_of_a_box_in_slabs(monkeypatch):
    field = random_field()
    box = ((-3, 2.5), (-1, 4), (-2, 3))
    voxels, ijk_to_ras = field.volume(spacing=0.5, box=box, axes="ras")
    assert min(voxels.shape) >= 9 and max(voxels.shape) <= 12
    first = ijk_to_ras[:3, 3]
    last = first + ijk_to_ras[:3, :3] @ (np.array(voxels.shape[::-1]) - 1)
    low, high = np.array(box).T
    assert (np.minimum(first, last) >= low - 1e-6).all() and (np.maximum(first, last) <= high + 1e-6).all()
    monkeypatch.setattr("GaussianMRILib.gaussians.volume.SLAB_PIXELS", 350)
    grid, slabs = field.slabs(spacing=0.5, box=box, axes="ras")
    parts = list(slabs)
    assert len(parts) > 2 and grid.shape == voxels.shape
    assert [first for first, _ in parts] == list(np.cumsum([0] + [len(slab) for _, slab in parts])[:-1])
    assert np.array_equal(np.concatenate([slab for _, slab in parts]), voxels, equal_nan=True)
    for wrong, message in (
        (dict(spacing=0), "spacing"), (dict(spacing=2e-3), "too large"), (dict(axes="lps"), "'first' or 'ras'"),
        (dict(box=((0, 1), (0, 1))), "box must be"), (dict(box=((90, 95), (0, 1), (0, 1))), "Nothing was scanned"),
    ):  # fmt: skip
        with pytest.raises(gm.GaussianMRIError, match=message):
            field.volume(**wrong)


@pytest.mark.parametrize("axes", ["first", "ras"])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_a_bright_point_is_at_its_place_in_files(tmp_path, axes, suffix):
    import SimpleITK

    from GaussianMRILib.cli import main

    point = np.array([1.7, -2.3, 3.1])
    bright_at(point).save(tmp_path / "f.npz")
    output = tmp_path / f"out{suffix}"
    result = CliRunner().invoke(
        main,
        ["resample", str(tmp_path / "f.npz"), "--isotropic", "0.5", "--axes", axes, "-o", str(output)],
        catch_exceptions=False,
    )
    assert result.exit_code == 0, result.output
    image = SimpleITK.ReadImage(str(output))
    values = SimpleITK.GetArrayFromImage(image).astype(float)
    assert np.isfinite(values).all() and values.min() == 0
    voxels, ijk_to_ras = gm.GaussianField.load(tmp_path / "f.npz").volume(spacing=0.5, axes=axes)
    assert np.array_equal(values, np.nan_to_num(voxels))
    middle = np.array([(values * n).sum() for n in np.indices(values.shape)[::-1]]) / values.sum()
    found = np.array(image.TransformContinuousIndexToPhysicalPoint(middle)) * [-1, -1, 1]
    assert np.abs(found - point).max() < 0.05
    exact = ijk_to_ras[:3, :3] @ middle + ijk_to_ras[:3, 3]
    assert np.abs(found - exact).max() < 1e-4
    assert np.allclose(image.GetSpacing(), 0.5)


def test_damaged_foreign_and_newer_files(tmp_path):
    field = random_field()
    good = tmp_path / "good.npz"
    field.save(good)
    (tmp_path / "cut.npz").write_bytes(good.read_bytes()[:2000])
    (tmp_path / "text.npz").write_text("not a field")
    np.savez(tmp_path / "other.npz", header=np.array(json.dumps({"format": "other"})))
    np.savez(
        tmp_path / "new.npz", header=np.array(json.dumps({"format": "GaussianMRI field", "version": 99}))
    )
    for name, message in (
        ("cut", "damaged"),
        ("text", "damaged"),
        ("other", "not a GaussianMRI"),
        ("new", "newer"),
        ("no", "exist"),
    ):
        with pytest.raises(gm.GaussianMRIError, match=message):
            gm.GaussianField.load(tmp_path / f"{name}.npz")


def test_unwritable_output_leaves_nothing(tmp_path):
    with pytest.raises(gm.GaussianMRIError, match="cannot be written"):
        random_field().save(tmp_path / "missing" / "f.npz")
    assert not list(tmp_path.iterdir())


def test_wrong_parameters_are_refused():
    with pytest.raises(gm.GaussianMRIError, match=r"\(11, N\)"):
        random_field(parameters=torch.zeros(10, 4))
