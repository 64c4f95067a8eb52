"""Thick slabs: mean, maximum and minimum between two faces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fit_scenes import painted

import GaussianMRILib as gm
from GaussianMRILib.geometry import ImagePlane, slab_image

PLANE = ImagePlane.from_normal((0.4, -0.3, 0.6), (0.3, -0.4, 0.87), spacing=(0.5, 0.5), shape=(41, 45), thickness=8.0)


def height(planes):
    """Images of the distance along the normal of PLANE from its middle, mm; nothing is known beyond 3 mm above it."""
    heights = [np.full(p.shape, (p.center - PLANE.center) @ PLANE.normal, np.float32) for p in planes]
    return [np.where(image > 3.0001, np.nan, image) for image in heights]


def test_a_slab_has_the_extremes_between_its_faces_and_the_mean_of_what_is_known():
    assert np.allclose(slab_image(height, PLANE, projection="min", step=0.5), -4.0, atol=1e-5)
    assert np.allclose(slab_image(height, PLANE, projection="max", step=0.5), 3.0, atol=1e-5)
    # From -4 to 3 mm: the mean of the samples within, each half a millimetre, of which the one at the face counts half.
    assert np.allclose(
        slab_image(height, PLANE, projection="mean", step=0.5),
        (sum(np.arange(-3.5, 3.1, 0.5)) - 2) / 14.5,
        atol=1e-5,
    )
    above = PLANE.offset(3.5)  # whose middle nobody knows
    assert all(np.isnan(slab_image(height, above, projection=name, step=0.5)).all() for name in ("mean", "max", "min"))
    thin = replace(PLANE, thickness=0.0).offset(1.25)
    assert all(
        np.allclose(slab_image(height, thin, projection=name, step=0.5), 1.25, atol=1e-5)
        for name in ("mean", "max", "min")
    )


def test_a_vessel_that_crosses_the_slab_keeps_its_brightness_in_the_maximum():
    """A line of 1.5 mm (standard deviation) that climbs from -6 to 6 mm across the plane, on a ground of 300."""
    along = (PLANE.i_axis + 0.6 * PLANE.normal) / np.linalg.norm(PLANE.i_axis + 0.6 * PLANE.normal)

    def vessel(points):
        away = points - PLANE.center
        beside = (away**2).sum(-1) - (away @ along) ** 2
        return 0.3 + 0.6 * np.exp(-beside / (2 * 1.5**2))

    field = painted(vessel)
    images = {name: field.render(PLANE, projection=name) for name in ("mean", "max", "min")}
    row = PLANE.shape[0] // 2
    reach = np.abs((np.arange(45) - 22) * 0.5 * 0.6) < 4 - 0.5  # the columns where its middle lies in the slab
    thin = field.render(replace(PLANE, thickness=0.0))[row]
    # Gaussians of 0.48 mm blur the vessel's 1.5 mm.
    brightest = 300 + 600 * 1.5**2 / (1.5**2 + 0.48**2)
    assert np.abs(images["max"][row, reach] - brightest).max() < 8
    assert thin[22] == pytest.approx(brightest, abs=8) and thin[np.flatnonzero(reach)[0]] < 500  # a thin plane loses it
    # A box of 8 mm with soft edges sees the vessel's integral through it, 1.5 sqrt(2 pi) / cos(angle) = 4.38 mm.
    assert images["mean"][row, 22] == pytest.approx(300 + 600 * 4.38 / 8, abs=25)
    assert np.abs(images["min"][row, reach] - 300).max() < 60  # 4 mm from the middle it is still 20 above the ground
    assert np.all(images["min"] <= images["mean"] + 1) and np.all(images["mean"] <= images["max"] + 1)


@pytest.mark.parametrize("explicit", [False, True])
def test_the_mean_of_a_slab_thicker_than_any_slice_has_no_gaps(explicit):
    """Layers 2 mm apart: a profile of three samples, or of 24 over 24 mm, would see them or not by chance."""
    field = painted(lambda points: 0.5 + 0.4 * np.sin(np.pi * (points @ PLANE.normal)))
    if explicit:
        field = replace(field, report={"stacks": [{"spacing_mm": 4.0}]}).explicit()
    values = [field.render(replace(PLANE, thickness=24.0).offset(d))[20, 22] for d in (0.0, 0.5, 1.0)]
    assert np.abs(np.subtract(values, 500)).max() < 12


def test_other_projections_are_refused():
    with pytest.raises(gm.GaussianMRIError, match="no projection 'median'; choose one of mean, max, min"):
        painted(lambda points: points[..., 0] * 0, half=4.0).render(PLANE, projection="median")


@pytest.mark.parametrize("projection", ["max", "min"])
def test_a_thin_plane_has_no_brightest_value(projection):
    field, thin = painted(lambda points: points[..., 0] * 0, half=4.0), replace(PLANE, thickness=0.0)
    for render in (field.render, lambda plane, **how: field.render_many([PLANE, plane], **how)):
        with pytest.raises(gm.GaussianMRIError, match=f"'{projection}' is of a slab, and the plane is thin"):
            render(thin, projection=projection)
