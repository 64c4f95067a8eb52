"""Voxels and their places."""

from __future__ import annotations

import numpy as np

from GaussianMRILib.volumes import Grid, Volume

#: Columns of 2, rows of 1, slices of 3 mm along R, A, S.
MATRIX = np.array([[2, 0, 0, 10], [0, 1, 0, -5], [0, 0, 3, 7], [0, 0, 0, 1.0]])


def test_a_grid_has_its_voxels_on_its_planes() -> None:
    grid = Grid(MATRIX, (4, 3, 5))
    assert grid.spacing == (3, 1, 2)
    np.testing.assert_allclose(grid.points()[3, 2, 4], [18, -3, 16])
    np.testing.assert_allclose(np.stack([plane.points() for plane in grid.planes()]), grid.points())
    assert grid.planes()[1].thickness == 0 and grid.plane(1).shape == (3, 5)


def test_values_beyond_the_centres_and_beyond_the_edges() -> None:
    """Along slices the pixels are 0, 10, 20, 30: between the last centre (16 mm) and the edge (17.5 mm) they go on."""
    pixels = np.arange(0, 40, 10, np.float32)[:, None, None] * np.ones((4, 3, 5), np.float32)
    volume = Volume(pixels, MATRIX, order=1, name="ramp")
    assert volume.spacing == 1
    points = np.array([[12, -4, s] for s in (8.5, 16, 17.2, 17.8)])
    np.testing.assert_allclose(volume.values(points), [5, 30, 30, 30], atol=1e-5)
    np.testing.assert_allclose(volume.at(points), [5, 30, 26, np.nan], atol=1e-5)
    hull = np.array([[0, 0, 1, -10.0]])  # S <= 10 mm
    np.testing.assert_allclose(Volume(pixels, MATRIX, hull=hull, order=1).at(points), [5, np.nan, np.nan, np.nan], atol=1e-5)
