"""The field as an object: its numbers, its file, its rendering against the definition."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
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
