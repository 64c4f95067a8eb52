"""Pictures for checking by eye."""

from __future__ import annotations

import numpy as np
import pytest
from disc_scenes import grid_around, linear_scan, made_disc, sagittal_grid

from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.grading.inputs import acquired_input
from GaussianMRILib.grading.overlay import (
    BOX,
    DISC,
    PIXELS_PER_MM,
    PLANE,
    POINT,
    SAGITTAL_MM,
    overlay_picture,
)
from GaussianMRILib.grading.roi import COLUMNS, ROWS, region_of
from GaussianMRILib.stacks import SliceStack

SIZE = round(SAGITTAL_MM * PIXELS_PER_MM)


def sagittal() -> SliceStack:
    """Slices that are brighter in front."""
    matrix = sagittal_grid(np.array([3.0, -10.0, 20.0]), (9, 180, 180))
    ramp = np.broadcast_to(np.linspace(900, 100, 180), (9, 180, 180))
    return SliceStack.from_array(ramp, matrix, thickness=4.0, name="sagittal")


def places(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """(row, column) of the pixels of a colour."""
    return np.argwhere((picture == colour).all(axis=-1))


def test_disc_planes_and_reference_point_are_where_they_should_be() -> None:
    disc = made_disc(tilt=30)
    region = region_of(disc)
    result = acquired_input(disc, linear_scan(30), median=2000.0)
    picture = overlay_picture(disc, region, [sagittal(), linear_scan(30)], result)
    assert picture.dtype == np.uint8 and picture.shape[1:] == (2 * SIZE + 6, 3)
    assert picture.shape[0] == SIZE + 6 + 20 + 3 * (ROWS + 6)
    side = picture[:SIZE, :SIZE]
    # The disc's middle is the picture's; r lies 17 mm behind it, 17 sin(30) mm above its middle.
    middle = places(side, POINT).mean(axis=0)
    offset = PIXELS_PER_MM * np.array([-17 * np.sin(np.pi / 6), 17 * np.cos(np.pi / 6)])
    np.testing.assert_allclose(middle, (SIZE - 1) / 2 + offset, atol=1.0)
    for colour in (DISC, PLANE, BOX):
        assert len(places(side, colour)) > 100
    # Planes rise to the back, as the disc does: front lower, at the left of the picture.
    rows, columns = places(side, PLANE).T
    slope = [np.polyfit(columns[rows // 20 == k], rows[rows // 20 == k], 1)[0] for k in range(6, 12)]
    assert np.median(slope) < 0
    # The front is at the left: there the ramp is brighter.
    assert side[-30:, 20:40].mean() > side[-30:, -40:-20].mean() + 50


def test_crops_hang_as_axial_images_do() -> None:
    disc = made_disc(tilt=30)
    stack = linear_scan(30, shape=(120, 60))
    result = acquired_input(disc, stack, median=2000.0)
    picture = overlay_picture(disc, region_of(disc), stack, result)
    first = picture[SIZE + 26 : SIZE + 26 + ROWS, :COLUMNS].astype(float).mean(axis=-1)
    white = np.percentile(result.images, 99.8)
    shown = np.clip(result.images[0] / white, 0, 1) * 255
    kept = np.s_[40:, 40:200]
    assert np.abs(first[kept] - shown[kept]).max() < 1.5
    assert len(places(picture[SIZE + 26 :, :], POINT)) > 4, "r on the slice nearest to it"


def test_an_overlay_without_crops_and_without_a_sagittal_series() -> None:
    disc = made_disc(tilt=30)
    stack = linear_scan(0, shape=(60, 60))
    picture = overlay_picture(disc, region_of(disc), stack)
    assert picture.shape == (SIZE + 6 + 20 + ROWS + 6, 2 * SIZE + 6, 3)


def test_a_scan_elsewhere_has_no_overlay() -> None:
    disc = made_disc(tilt=0)
    far = grid_around(
        np.array([3.0, -10, 500]), *np.array([[-1.0, 0, 0], [0, -1, 0], [0, 0, 4.0]]), (5, 40, 40)
    )
    with pytest.raises(GaussianMRIError, match="shows nothing around L5/S1"):
        overlay_picture(disc, region_of(disc), SliceStack.from_array(np.ones((5, 40, 40)), far))
