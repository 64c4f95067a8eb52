"""Series in several blocks: one stack, whose blocks, distances and scanned regions are known."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from dicom_files import image, save

from GaussianMRILib.baselines import LinearInterpolator
from GaussianMRILib.cli import main
from GaussianMRILib.geometry import ImagePlane, inside_hull
from GaussianMRILib.stacks import SliceStack, hulls_of, read_stacks

ANGLES = (3.0, -9.0, 20.0)


def block(
    folder: Path,
    angle: float,
    height: float,
    count: int = 3,
    first: int = 1,
    across: float = 0.0,
    flip: bool = False,
    **tags: object,
) -> None:
    """Slices 4 mm apart about a centre (0, across, height), tilted about the left-right axis; value = 1000 + number."""
    folder.mkdir(parents=True, exist_ok=True)
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    i, j = np.array([1.0, 0, 0]), np.array([0, cosine, sine])
    if flip:
        i = -i
    normal = np.cross([1.0, 0, 0], j)
    for k in range(count):
        centre = np.array([0, across, height]) + 4.0 * (k - (count - 1) / 2) * normal
        corner = centre - i * 0.5 * 2 - j * 0.75 * 2.5
        pixels = np.full((6, 5), 1000 + first + k, np.uint16)
        pixels[::2] = 0  # no label map
        save(
            image(pixels, corner, [*i, *j], InstanceNumber=first + k, **tags),
            folder / f"{first + k:03d}-{angle:g}.dcm",
        )


def spine(folder: Path, **tags: object) -> None:
    """Three blocks 40 mm apart, acquired from top to bottom."""
    for n, angle in enumerate(ANGLES):
        block(folder, angle, 80 - 40.0 * n, first=1 + 3 * n, **tags)


def test_blocks_of_a_series_are_one_stack_in_the_order_of_space(tmp_path: Path) -> None:
    spine(tmp_path)
    (stack,) = read_stacks(tmp_path)
    assert stack.shape == (9, 6, 5) and stack.name == "T2"
    # Along the normal, which points up: the last block first.
    numbers = [7, 8, 9, 4, 5, 6, 1, 2, 3]
    assert stack.source["slice_instance_numbers"] == numbers
    np.testing.assert_array_equal(stack.pixels[:, 3, 3], np.array(numbers) + 1000)
    assert np.all(np.diff(stack.positions) > 0)
    assert stack.notes == ("3 blocks, 3.0 to 20.0 degrees",)
    assert stack.spacing == pytest.approx(4.0) and stack.thickness == 3.0
    parts = stack.blocks()
    assert [part.source["slice_instance_numbers"] for part in parts] == [[7, 8, 9], [4, 5, 6], [1, 2, 3]]
    for part, angle in zip(parts, ANGLES[::-1], strict=True):
        assert np.degrees(np.arccos(part.normal[2])) == pytest.approx(abs(angle), abs=1e-3)
        assert part.blocks() == [part]


def test_inspect_shows_the_blocks(tmp_path: Path) -> None:
    spine(tmp_path)
    lines = CliRunner().invoke(main, ["inspect", str(tmp_path)]).output.splitlines()
    assert "Stack 1: 3 blocks, 3.0 to 20.0 degrees" in lines
    assert not any("gantry" in line or "gap" in line for line in lines)


def test_thickness_of_blocks_without_a_tag_is_the_distance_within_them(tmp_path: Path) -> None:
    spine(tmp_path, SliceThickness=None)
    (stack,) = read_stacks(tmp_path)
    assert stack.thickness == pytest.approx(4.0)


def test_a_missing_slice_is_remarked_within_its_block_only(tmp_path: Path) -> None:
    spine(tmp_path / "a")
    block(tmp_path / "b", 15.0, 130.0, count=5, first=20)
    (tmp_path / "b" / "022-15.dcm").unlink()
    (stack,) = read_stacks(tmp_path)
    assert stack.notes == ("4 blocks, 3.0 to 20.0 degrees", "gap of 8.00 mm after slice 11: 1 missing")


def test_blocks_of_one_angle_with_another_between_them(tmp_path: Path) -> None:
    for n, (angle, across) in enumerate(((5.0, 0.0), (12.0, 2.0), (5.0, 6.0))):
        block(tmp_path, angle, 40.0 * n, first=1 + 3 * n, across=across)
    (stack,) = read_stacks(tmp_path)
    assert stack.source["slice_instance_numbers"] == list(range(1, 10))
    assert stack.notes == ("3 blocks, 5.0 to 12.0 degrees",)
    # Of one angle only, beside each other: two blocks too, and no missing slices.
    (stack,) = [s.subset([0, 1, 2, 6, 7, 8]) for s in [stack]]
    assert [len(part.pixels) for part in stack.blocks()] == [3, 3] and stack.spacing == pytest.approx(4)


def test_a_wide_step_beside_the_line_is_no_gap_with_missing_slices(tmp_path: Path) -> None:
    block(tmp_path, 5.0, 0.0)
    block(tmp_path, 5.0, 40.0, first=4, across=8.0)
    (stack,) = read_stacks(tmp_path)
    assert stack.notes == ("2 blocks, 5.0 to 5.0 degrees",)


def test_a_block_whose_rows_run_the_other_way_fits_in(tmp_path: Path) -> None:
    block(tmp_path, 5.0, 0.0)
    block(tmp_path, 12.0, 40.0, first=4, flip=True)
    (stack,) = read_stacks(tmp_path)
    assert np.all(np.diff(stack.positions) > 0) and stack.shape[0] == 6
    assert stack.source["slice_instance_numbers"] == [1, 2, 3, 4, 5, 6]


def test_planes_of_a_localizer_and_other_contrasts_stay_apart(tmp_path: Path) -> None:
    block(tmp_path / "a", 0.0, 0.0)
    block(tmp_path / "a", 60.0, 60.0, first=4)
    assert [s.shape[0] for s in read_stacks(tmp_path / "a")] == [3, 3]
    block(tmp_path / "b", 0.0, 0.0, EchoTime=90.0)
    block(tmp_path / "b", 10.0, 60.0, first=4, EchoTime=30.0)
    assert [s.shape[0] for s in read_stacks(tmp_path / "b")] == [3, 3]
    block(tmp_path / "c", 0.0, 0.0)
    block(tmp_path / "c", 10.0, 60.0, first=4, SeriesInstanceUID="7.7")
    assert [s.shape[0] for s in read_stacks(tmp_path / "c")] == [3, 3]


def test_echoes_of_blocks_are_one_stack_each(tmp_path: Path) -> None:
    for echo in (1, 2):
        for n, angle in enumerate(ANGLES):
            block(tmp_path / str(echo), angle, 40.0 * n, first=1 + 3 * n, EchoNumbers=echo)
    stacks = read_stacks(tmp_path)
    assert [s.shape[0] for s in stacks] == [9, 9]
    assert [s.name for s in stacks] == ["T2, axial, echo 1", "T2, axial, echo 2"]


def test_one_place_at_two_angles_stays_two_stacks(tmp_path: Path) -> None:
    block(tmp_path, 0.0, 0.0, count=8)
    block(tmp_path, 10.0, 1.0, count=8, first=9)
    assert [s.shape[0] for s in read_stacks(tmp_path)] == [8, 8]
    # Two angled blocks beside a straight set that covers both: the blocks are one acquisition, the set another.
    block(tmp_path / "b", 0.0, 0.0, count=20)
    block(tmp_path / "b", 10.0, -25.0, first=21)
    block(tmp_path / "b", -10.0, 25.0, first=24)
    assert [s.shape[0] for s in read_stacks(tmp_path / "b")] == [20, 6]


def test_slices_turned_about_one_axis_stay_apart(tmp_path: Path) -> None:
    for n in range(3):
        block(tmp_path, 10.0 * n, 0.0, count=1, first=n + 1)
    assert [s.shape[0] for s in read_stacks(tmp_path)] == [1, 1, 1]


# ---- what was scanned


def test_nothing_was_scanned_in_a_wide_gap(tmp_path: Path) -> None:
    spine(tmp_path)
    (stack,) = read_stacks(tmp_path)
    hulls = stack.hulls()
    assert len(hulls) == 3 and len(hulls_of([stack, stack])) == 6
    middles = np.stack([plane.center for plane in stack.planes()])
    assert stack.inside(middles).all()
    between = (middles[[2, 5]] + middles[[3, 6]]) / 2
    assert not stack.inside(between).any() and inside_hull(stack.hull(), between).all()


def test_one_missing_slice_is_no_wide_gap_and_three_are() -> None:
    affine = np.diag([1.0, 1, 4, 1])
    stack = SliceStack.from_array(np.random.default_rng(0).normal(size=(12, 6, 7)), affine)
    assert len(stack.subset([0, 1, 2, 4, 5, 6]).hulls()) == 1
    gapped = stack.subset([0, 1, 2, 3, 7, 8, 9])
    assert len(gapped.hulls()) == 2 and [len(r.pixels) for r in gapped.regions()] == [4, 3]
    assert len(gapped.blocks()) == 1  # on one line all the same
    assert len(stack.subset([0, 4, 8]).hulls()) == 1  # sparse, not gapped
    plane = ImagePlane.from_normal((3, 3, 20), (1, 0, 0), spacing=(1, 1), shape=(60, 5))
    image = LinearInterpolator(gapped).render(plane)
    np.testing.assert_array_equal(np.isfinite(image), gapped.inside(plane.points()))
    assert np.isnan(image).any() and np.isfinite(image).any()
    empty = ImagePlane.from_normal((3, 3, 20), (0, 0, 1), spacing=(1, 1), shape=(5, 5))
    assert np.isnan(LinearInterpolator(gapped).render(empty)).all()


def test_slices_through_one_axis_are_one_region() -> None:
    turns = np.radians([0, 30, 60, 90, 120])
    poses = np.stack([np.eye(4)] * 5)
    for pose, angle in zip(poses, turns, strict=True):
        c, s = np.cos(angle), np.sin(angle)
        pose[:3, :3] = [[c, 0, s], [s, 0, -c], [0, 1, 0]]
        pose[:3, 3] = pose[:3, :3] @ [-7.3, -4.1, 0]
    stack = SliceStack.from_array(np.zeros((5, 9, 15)), poses, thickness=3.0)
    assert len(stack.hulls()) == 1


def test_regions_do_not_leak_into_each_other() -> None:
    """A gap of 40 mm between a dark and a bright half: each is interpolated from its own slices."""
    affine = np.diag([1.0, 1, 4, 1])
    pixels = np.zeros((16, 8, 8))
    pixels[12:] = 100
    stack = SliceStack.from_array(pixels, affine).subset([0, 1, 2, 3, 12, 13, 14, 15])
    for k, value in ((3, 0.0), (4, 100.0)):
        image = LinearInterpolator(stack).render(stack.plane(k))
        np.testing.assert_allclose(image, value, atol=1e-5)


def test_slices_moved_one_by_one_keep_their_spacing_and_one_region() -> None:
    """After a correction of motion no two slices are parallel: the distance is that of all neighbours."""
    affine = np.diag([1.0, 1, 4, 1])
    stack = SliceStack.from_array(np.zeros((6, 30, 30)), affine)
    poses = stack.ijk_to_ras.copy()
    for pose, angle in zip(poses, np.radians([1.0, 3, 1.5, 4, 2, 3.5]), strict=True):
        c, s = np.cos(angle), np.sin(angle)
        pose[:3, :3] = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ pose[:3, :3]
    moved = SliceStack.from_array(stack.pixels, poses, thickness=4.0)
    assert [len(part.pixels) for part in moved.blocks()] == [1] * 6
    assert moved.spacing == pytest.approx(4.0, abs=0.6) and len(moved.hulls()) == 1


def test_lumbar_series_in_five_blocks(extracted: Callable[[str], Path], caplog) -> None:
    folder = extracted("mr_multi/lumbar_hitachi.tar.xz")
    with caplog.at_level(logging.INFO, logger="GaussianMRI"):
        (stack,) = read_stacks(next(folder.rglob("ax_t2")))
    assert stack.shape == (17, 512, 512) and stack.name == "T2 AX"
    assert sorted(len(part.pixels) for part in stack.blocks()) == [3, 3, 3, 4, 4]
    assert stack.notes == ("5 blocks, 3.0 to 20.7 degrees",) and "5 blocks" in caplog.text
    assert stack.spacing == pytest.approx(4.5, abs=0.01) and stack.thickness == 4.0
    assert np.all(np.diff(stack.positions) > 0)
    assert len(set(stack.source["slice_instance_uids"])) == 17
    hulls = stack.hulls()
    assert len(hulls) == 5
    middles = np.stack([plane.center for plane in stack.planes()])
    steps = np.linalg.norm(np.diff(middles, axis=0), axis=1)
    wide = np.flatnonzero(steps > 12)
    assert len(wide) == 4
    between = (middles[wide] + middles[wide + 1]) / 2
    assert not stack.inside(between).any() and inside_hull(stack.hull(), between).all()
    assert stack.inside(middles).all()
