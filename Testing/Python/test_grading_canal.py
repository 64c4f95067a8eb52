"""Area and diameter of the canal, against sections whose size is known, and what is no canal to measure."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from disc_scenes import grid_around, made_disc, rotation
from scipy.special import gamma

from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.grading.canal import (
    WITHIN_BY_SLICES,
    Canal,
    CanalMeasure,
    integrated,
    measure_canal,
    write_measures,
)
from GaussianMRILib.grading.disc import DiscGeometry

Grid = tuple[np.ndarray, tuple[int, int, int]]
SIZE = (9.0, 6.0)  # half-axes of a section, mm


def grid_of(kind: str, center: np.ndarray) -> Grid:
    """Voxels as clinics have them: columns, rows and slices, mm."""
    name, spacing, pixel = kind.split()
    step, px = float(spacing), float(pixel)
    if name == "sagittal":
        shape = (round(60 / step), 130, 130)
        return grid_around(center, np.array([0, -px, 0]), np.array([0, 0, -px]), np.array([step, 0, 0]), shape), shape
    if name == "coronal":
        shape = (round(60 / step), 130, 130)
        return grid_around(center, np.array([-px, 0, 0]), np.array([0, 0, -px]), np.array([0, step, 0]), shape), shape
    shape = (round(70 / step), round(80 / px), round(80 / px))
    return grid_around(center, np.array([-px, 0, 0]), np.array([0, -px, 0]), np.array([0, 0, step]), shape), shape


def cylinder(
    disc: DiscGeometry,
    grid: Grid,
    size: tuple[float, float] = SIZE,
    lean: float = 8.0,
    sway: float = 3.0,
    back: float = 30.0,
) -> np.ndarray:
    """Voxels of a leaning cylinder whose section with the disc's plane is an ellipse of a known size."""
    matrix, shape = grid
    k, j, i = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    local = disc.local(np.stack([i, j, k], axis=-1).reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3])
    axis = rotation(np.array([0, 1.0, 0]), sway) @ rotation(np.array([1.0, 0, 0]), lean) @ [0, 0, 1.0]
    places = local[:, :2] - local[:, 2:] / axis[2] * axis[:2] - [0, back]
    return (((places / size) ** 2).sum(axis=1) < 1).reshape(shape)


def scene(
    kind: str, tilt: float = 20.0, shift: tuple[float, float, float] = (0, 0, 0), **options: float
) -> tuple[Canal, DiscGeometry]:
    disc = made_disc(tilt)
    grid = grid_of(kind, disc.center + 30 * disc.back + shift)
    return Canal(cylinder(disc, grid, **options), grid[0]), disc  # type: ignore[arg-type]


# ---- sizes that are known --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["axial 4 0.625", "axial 3.3 0.8", "sagittal 4.4 0.75", "sagittal 3.3 0.6", "isotropic 1 1"]
)
@pytest.mark.parametrize("shift", [(0.0, 0.0, 0.0), (1.7, -0.3, 1.1), (-1.1, 0.2, 2.3)])
def test_the_area_of_oblique_cylinders_is_within_three_percent(kind: str, shift: tuple[float, float, float]) -> None:
    canal, disc = scene(kind, shift=shift)
    found = canal.measure(disc)
    assert found.problem == "" and found.area is not None and found.diameter is not None and found.center is not None
    assert found.area == pytest.approx(np.pi * np.prod(SIZE), rel=0.03)
    assert found.diameter == pytest.approx(2 * SIZE[1], abs=0.45)
    np.testing.assert_allclose(disc.local(found.center), [0, 30, 0], atol=0.5)


@pytest.mark.parametrize(
    ("tilt", "lean", "size"), [(30.0, 15.0, (8.0, 5.5)), (0.0, 0.0, (8.0, 5.5)), (20.0, 8.0, (6.0, 4.0))]
)
def test_narrow_and_steep_canals_on_axial_slices(tilt: float, lean: float, size: tuple[float, float]) -> None:
    canal, disc = scene("axial 4 0.625", tilt, (0.4, 0.3, 1.7), lean=lean, size=size)  # type: ignore[arg-type]
    found = canal.measure(disc)
    assert found.area == pytest.approx(np.pi * np.prod(size), rel=0.03)
    assert found.uncertainty == pytest.approx(0.03 * (found.area or 0))


def test_few_sagittal_slices_say_how_sure_they_are() -> None:
    four, disc = scene("sagittal 4.4 0.75")
    found = four.measure(disc)
    assert found.notes == ("4 slices 4.4 mm apart cross the canal",)
    assert found.uncertainty == pytest.approx(0.10 * (found.area or 0))
    two, disc = scene("sagittal 5 0.75", size=(5.0, 4.0), shift=(2.5, 0, 0))  # type: ignore[arg-type]
    assert two.measure(disc).problem == "only 2 slices 5.0 mm apart cross the canal, too few; use labels of axial slices"


def test_lengths_of_an_ellipse_give_its_area() -> None:
    for first in (-7.9, -6.4, -4.6):
        side = np.arange(first, 8, 3.3)
        area, middle, diameter = integrated(side, 2 * 5 * np.sqrt(1 - (side / 8) ** 2))
        assert area == pytest.approx(np.pi * 8 * 5, rel=2e-3)
        assert (middle, diameter) == (pytest.approx(0, abs=0.02), pytest.approx(10, rel=1e-3))


def test_how_far_few_slices_are_off() -> None:
    """Sections from angular to nearly rectangular, 10 to 20 mm wide, lengths with an error of 0.1 mm, slices anywhere."""
    random = np.random.default_rng(0)
    errors: dict[int, list[float]] = {count: [] for count in WITHIN_BY_SLICES}
    for number in range(2400):
        exponent = (1.7, 2.0, 2.0, 2.5)[number % 4]
        wide, deep, apart = random.uniform(5, 10), random.uniform(3.5, 7), random.uniform(3.3, 5)
        side = np.arange(-6, 7) * apart + random.uniform(0, apart)
        side = side[np.abs(side) < wide]
        lengths = 2 * deep * (1 - np.abs(side / wide) ** exponent) ** (1 / exponent) + random.normal(0, 0.1, len(side))
        side, lengths = side[lengths > 0.7], lengths[lengths > 0.7]
        if len(side) >= min(WITHIN_BY_SLICES):
            truth = 4 * wide * deep * gamma(1 + 1 / exponent) ** 2 / gamma(1 + 2 / exponent)
            errors[min(len(side), max(errors))].append(abs(integrated(side, lengths)[0] / truth - 1))
    for count, within in WITHIN_BY_SLICES.items():
        assert len(errors[count]) > 40
        assert within / 2 < np.percentile(errors[count], 95) < within


def test_a_cut_off_within_the_uncertainty_is_said() -> None:
    assert CanalMeasure("L4/L5", 104.0, 16.0, 9.0).cells()["remarks"] == "100 mm² lies within ±"
    assert CanalMeasure("L4/L5", 104.0, 3.0, 9.0).cells()["remarks"] == ""


def test_a_narrowing_is_seen_where_it_is() -> None:
    disc = made_disc(10)
    grid = grid_of("axial 1 0.5", disc.center + 30 * disc.back)
    matrix, shape = grid
    k, j, i = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    local = disc.local(np.stack([i, j, k], axis=-1) @ matrix[:3, :3].T + matrix[:3, 3])
    scale = np.where(np.abs(local[..., 2]) < 3, 0.6, 1.0)
    mask = ((local[..., 0] / 9) ** 2 + ((local[..., 1] - 30) / 6) ** 2) < scale**2
    found = Canal(mask, matrix).measure(disc)
    assert found.area == pytest.approx(np.pi * 9 * 6 * 0.36, rel=0.03)
    assert found.below == 75


# ---- what is not measured --------------------------------------------------------------------------------------


def test_no_canal_and_one_in_pieces() -> None:
    disc = made_disc(20)
    grid = grid_of("axial 4 0.625", disc.center + 30 * disc.back)
    mask = cylinder(disc, grid)
    assert Canal(np.zeros_like(mask), grid[0]).measure(disc).problem == "there is no canal on the plane of the disc"
    broken = mask.copy()
    middle = int(np.flatnonzero(mask.any(axis=(0, 1))).mean())
    broken[:, :, middle - 2 : middle + 2] = False
    found = Canal(broken, grid[0]).measure(disc)
    assert found.area is None and found.problem.startswith("the canal is in 2 pieces on the plane of the disc (")
    speck = mask.copy()
    speck[:, 5, 5] = True  # 0.4 mm²
    whole = Canal(mask, grid[0]).measure(disc).area
    assert Canal(speck, grid[0]).measure(disc).area == pytest.approx(whole, rel=0.005)


def test_a_canal_cut_by_the_edge() -> None:
    disc = made_disc(20)
    matrix, shape = grid_of("sagittal 3.3 0.6", disc.center + 30 * disc.back)
    mask = cylinder(disc, (matrix, shape))
    first = int(np.flatnonzero(mask.any(axis=(1, 2)))[2])
    cut = matrix.copy()
    cut[:3, 3] += cut[:3, 2] * first
    assert Canal(mask[first:], cut).measure(disc).problem == "the canal is cut by the edge of the scan"
    # The map goes on, the scan does not.
    right = float(cut[0, 3]) - 1.6
    found = Canal(mask, matrix, inside=lambda points: points[:, 0] > right).measure(disc)
    assert found.area is None and found.problem == "the canal is cut by the edge of the scan"
    assert Canal(mask, matrix, inside=lambda points: points[:, 0] > right - 30).measure(disc).area is not None


def test_a_canal_that_ends_at_the_disc() -> None:
    disc = made_disc(20)
    matrix, shape = grid_of("axial 4 0.625", disc.center + 30 * disc.back)
    mask = cylinder(disc, (matrix, shape))
    k, j, i = np.indices(shape)
    above = disc.local(np.stack([i, j, k], axis=-1) @ matrix[:3, :3].T + matrix[:3, 3])[..., 2]
    assert "ends here: 5 mm above the plane 0%" in Canal(mask & (above < 2.5), matrix).measure(disc).problem
    assert "ends here: 5 mm below the plane 0%" in Canal(mask & (above > -2.5), matrix).measure(disc).problem


def test_a_map_turned_round_and_slices_from_front_to_back() -> None:
    disc = made_disc(20)
    grid = grid_of("axial 4 0.625", disc.center - 30 * disc.back)
    turned = Canal(cylinder(disc, grid, back=-30.0), grid[0])
    assert turned.measure(disc).problem == "the canal lies in front of the disc; the label map is turned round"
    coronal, disc = scene("coronal 4 0.7")
    assert coronal.measure(disc).problem == "the slices of the label map are 4.0 mm apart from front to back"
    with pytest.raises(GaussianMRIError, match="is a mask"):
        Canal(np.zeros((3, 3)), np.eye(4))


# ---- tables ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("area", "below"), [(100.0, None), (99.9, 100), (75.0, 100), (74.9, 75), (None, None)])
def test_cut_offs(area: float | None, below: float | None) -> None:
    assert CanalMeasure("L4/L5", area, 1.0, 9.0).below == below


def test_rows_of_levels(tmp_path: Path) -> None:
    canal, disc = scene("axial 4 0.625")
    done: list[float] = []
    rows = measure_canal(
        canal, {"L5/S1": disc}, ("L4/L5", "L5/S1"), problems={"L4/L5": "it is gone"}, notes={"L5/S1": ["look"]},
        progress=done.append,
    )  # fmt: skip
    assert done == [0.5, 1.0]
    assert [(row.level, row.problem, row.notes) for row in rows] == [("L4/L5", "it is gone", ()), ("L5/S1", "", ("look",))]
    write_measures(tmp_path / "measures.csv", rows)
    with open(tmp_path / "measures.csv", encoding="utf-8-sig", newline="") as file:
        first, second = csv.DictReader(file)
    assert first == {"level": "L4/L5", "area (mm²)": "", "± (mm²)": "", "AP diameter (mm)": "", "below cut-off (mm²)": "",
                     "remarks": "it is gone"}  # fmt: skip
    assert float(second["area (mm²)"]) == pytest.approx(rows[1].area, abs=0.06) and second["remarks"] == "look"
