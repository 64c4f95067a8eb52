"""The lumbar phantom: its anatomy is where it says, and what is written is what the reader finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import GaussianMRILib as gm
from GaussianMRILib.grading.study_series import series_of_study
from GaussianMRILib.phantom import (
    T1,
    T2,
    Contrast,
    Phantom,
    PhantomFiles,
    Scan,
    acquire,
    lumbar_scans,
    tissues,
    write,
    write_lumbar_phantom,
)
from GaussianMRILib.phantom.dicom import Study
from GaussianMRILib.phantom.frame import SpineFrame, rotation
from GaussianMRILib.phantom.scanner import _offsets
from GaussianMRILib.phantom.tissues import Tissue

SEED = 4


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return Phantom(SEED)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> PhantomFiles:
    return write_lumbar_phantom(tmp_path_factory.mktemp("phantom"), seed=SEED)


@pytest.fixture(scope="module")
def stacks(study: PhantomFiles) -> dict[str, gm.SliceStack]:
    return {name: gm.read_stacks(getattr(study, name))[0] for name in ("axial", "sagittal", "truth")}


# ---- the frame ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_spine_coordinates_invert_to_ras(seed: int) -> None:
    generator = np.random.default_rng(seed)
    pose = rotation(*generator.uniform(-5, 5, 3))
    frame = SpineFrame([-100, -30, 0, 40, 110], [-20, 45, 35, 15, -5], pose, generator.uniform(-9, 9, 3))
    uvs = np.stack(
        [generator.uniform(-60, 60, 50), generator.uniform(-60, 40, 50), generator.uniform(-60, 110, 50)], 1
    )
    ras = np.stack([frame.to_ras(*row) for row in uvs])
    found = frame.points(ras)
    np.testing.assert_allclose(np.stack([found.u, found.v, found.s], 1), uvs, atol=0.02)


def test_metric_is_the_length_of_a_step_along_the_spine(phantom: Phantom) -> None:
    for v, s in ((15.0, 3.0), (-40.0, 20.0), (0.0, -20.0)):
        step = phantom.frame.to_ras(0, v, s + 0.5) - phantom.frame.to_ras(0, v, s - 0.5)
        metric = phantom.frame.points(phantom.frame.to_ras(0, v, s)[None]).metric[0]
        assert np.linalg.norm(step) == pytest.approx(float(metric), rel=0.01)


@pytest.mark.parametrize("seed", range(6))
def test_disc_plane_is_tilted_as_discs_are(seed: int) -> None:
    phantom = Phantom(seed)
    plane = phantom.disc_plane("L5-S1")
    assert 20 <= phantom.tilt <= 42
    # The patient may lie a few degrees askew.
    assert np.degrees(np.arccos(plane.normal[2])) == pytest.approx(phantom.tilt, abs=5)
    assert plane.normal[1] > 0  # the front of the disc is lower than its back
    assert plane.i_axis[0] < -0.99 and plane.j_axis[1] < 0  # left on the right of the image, front at the top
    points = phantom.frame.points(plane.points().reshape(-1, 3))
    np.testing.assert_allclose(points.s, 0, atol=0.05)


# ---- the anatomy -------------------------------------------------------------------------------------------


def relative(phantom: Phantom, u: float, v: float, s: float, contrast: Contrast = T2) -> float:
    """Signal without the coil, averaged over a small ball, so that texture and rootlets do not decide."""
    ras = phantom.frame.to_ras(u, v, s)
    ball = np.random.default_rng(0).normal(size=(200, 3)) * 0.4 + ras
    points = phantom.frame.points(ball)
    return float(np.mean(phantom.intensity(ball, contrast=contrast) / phantom._sensitivity(points)))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_tissues_have_their_t2_signals(seed: int) -> None:
    phantom = Phantom(seed)
    disc = phantom.build.disc("L5-S1")
    assert relative(phantom, 0, -24.5, 0) == pytest.approx(1.0, abs=0.06)  # CSF, in front of the rootlets
    assert relative(phantom, 0, -2, 1.8) == pytest.approx(disc.nucleus, abs=0.04)
    assert relative(phantom, 23.5, 0, 0) < 0.17  # outer annulus
    assert relative(phantom, 8, 4, -18) == pytest.approx(0.45, abs=0.08)  # marrow of S1
    assert relative(phantom, 22, -14, 0) == pytest.approx(0.4, abs=0.05)  # L5 root beside the disc
    assert relative(phantom, -10, -22, 0) == pytest.approx(0.4, abs=0.06)  # S1 root in the lateral recess
    assert 0.15 < relative(phantom, 30, -55, 30) < 0.5  # erector spinae with its fat
    assert relative(phantom, 0, -140, 20) == 0  # air behind the back


#: Places (u, v, s) of one tissue.
PLACES = {
    "fluid": (0, -24.5, 0), "disc": (0, -2, 1.8), "marrow": (8, 4, -18), "root": (22, -14, 0), "foramen": (21, -26, 6),
    "muscle": (30, -55, 30), "aorta": (-7, 28, 60), "flavum": (8, -33.3, 4), "air": (0, -140, 20),
}  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_t1_shows_fluid_dark_and_fat_bright(seed: int) -> None:
    """Disc, muscle and nerve between them, marrow brighter than these; ligament, cortex and flowing blood dark."""
    phantom = Phantom(seed)
    t1 = {name: relative(phantom, *place, T1) for name, place in PLACES.items()}
    assert t1["fluid"] == pytest.approx(0.13, abs=0.01) and t1["air"] == 0 and t1["aorta"] < 0.06
    assert t1["flavum"] < 0.2 < t1["muscle"] and t1["foramen"] == pytest.approx(0.72, abs=0.02)
    for name in ("disc", "root", "muscle"):
        assert 0.2 < t1[name] < 0.36 < t1["marrow"] < 0.65 < t1["foramen"]
    assert t1["disc"] < 0.75 * t1["marrow"] and t1["root"] < 0.5 * t1["foramen"]
    front = np.stack([phantom.frame.to_ras(0, v, 18.0) for v in np.arange(12, 24, 0.1)])
    wall = phantom.intensity(front, contrast=T1) / phantom._sensitivity(phantom.frame.points(front))
    assert wall.min() < 0.1 < 0.4 < wall[0], "marrow, then cortex"


def test_contrasts_show_one_body(phantom: Phantom) -> None:
    """Every tissue begins and ends at the same place; where none differs, as in air, so do the signals."""
    for layer in phantom._painting.layers:
        assert all(isinstance(value, Tissue) or callable(value) for _, value in layer.bands), layer.name
    points = phantom.disc_plane(spacing=(2, 2), shape=(48, 56)).points()
    t2, t1 = phantom.intensity(points, contrast=T2), phantom.intensity(points, contrast=T1)
    np.testing.assert_array_equal(t2, phantom.intensity(points))
    assert np.array_equal(t1 == 0, t2 == 0) and np.abs(t1 - t2).max() > 0.6
    assert T1.of(tissues.CSF) < T1.of(tissues.ROOT) < T1.of(tissues.FAT) == T2.of(tissues.FAT)


def test_disc_has_the_height_and_width_of_design(phantom: Phantom) -> None:
    frame, disc = phantom.frame, phantom.build.disc("L5-S1")
    s = np.linspace(0, 14, 561)

    def upper_half(v: float) -> float:
        ras = np.stack([frame.to_ras(0, v, value) for value in s])
        signal = phantom.intensity(ras) / phantom._sensitivity(frame.points(ras))
        # The marrow of L5 begins behind a dark end plate of 0.8 mm.
        return float(np.linalg.norm(ras[np.flatnonzero(signal > 0.38).min()] - ras[0])) - 0.8

    # 12.4 mm in front and 6 mm behind, 34 mm apart; here measured 24 mm apart, half of the height.
    front, back = upper_half(12), upper_half(-12)
    assert 2 * (front - back) == pytest.approx((12.4 - 6.0) * 24 / 34, abs=1.0)
    assert front + back == pytest.approx(9.2, abs=1.0)
    assert (disc.half_width, disc.half_depth) == (25.0, 17.0)


def test_seed_makes_the_individual() -> None:
    points = Phantom(1).disc_plane(spacing=(4, 4), shape=(24, 28)).points()
    first = Phantom(1).intensity(points)
    np.testing.assert_array_equal(first, Phantom(1).intensity(points))
    assert np.abs(first - Phantom(2).intensity(points)).mean() > 0.05


def test_intensity_does_not_depend_on_the_order_or_number_of_points(phantom: Phantom) -> None:
    points = np.random.default_rng(3).uniform(-60, 60, (40_000, 3))
    whole = phantom.intensity(points)
    order = np.random.default_rng(4).permutation(len(points))
    np.testing.assert_allclose(phantom.intensity(points[order]), whole[order], atol=1e-6)
    np.testing.assert_allclose(phantom.intensity(points[77:78])[0], whole[77], atol=1e-6)


# ---- the scanner -------------------------------------------------------------------------------------------


def test_slice_profile_is_a_box(phantom: Phantom) -> None:
    plane = gm.ImagePlane.from_axes((0, 0, 0), (-1, 0, 0), (0, -1, 0), spacing=(0.7, 0.7), thickness=4.0)
    offsets = _offsets(plane, 5)
    through = offsets @ plane.normal
    np.testing.assert_allclose(np.sort(through), [-1.6, -0.8, 0, 0.8, 1.6], atol=1e-12)
    across = offsets - through[:, None] * plane.normal
    np.testing.assert_allclose(across.mean(axis=0), 0, atol=1e-12)
    assert np.abs(across).max() < 0.35
    assert abs(np.corrcoef(through, offsets @ plane.i_axis)[0, 1]) < 0.75


def test_noise_is_rician(phantom: Phantom) -> None:
    air = gm.ImagePlane.from_axes(phantom.frame.to_ras(0, -190, 40), (-1, 0, 0), (0, -1, 0), shape=(40, 200))
    image = acquire(phantom, Scan("air", (air,), noise=0.02))[0]
    assert image.mean() == pytest.approx(
        0.02 * np.sqrt(np.pi / 2), rel=0.02
    )  # Rayleigh where there is no signal
    assert not np.array_equal(image, acquire(phantom, Scan("air", (air,), noise=0.02), seed=1)[0])
    np.testing.assert_array_equal(acquire(phantom, Scan("air", (air,)))[0], 0)


# ---- the files ---------------------------------------------------------------------------------------------


def test_series_have_the_prescribed_geometry(stacks: dict[str, gm.SliceStack], phantom: Phantom) -> None:
    for scan in lumbar_scans(phantom):
        stack = stacks[scan.name]
        assert stack.shape == (len(scan.planes), *scan.planes[0].shape)
        for k, plane in enumerate(scan.planes):
            np.testing.assert_allclose(stack.ijk_to_ras[k], plane.ijk_to_ras, atol=1e-5)
        assert stack.thickness == pytest.approx(scan.planes[0].thickness or 0.1)
    assert stacks["axial"].spacing == pytest.approx(4.5) and stacks["axial"].thickness == pytest.approx(4.0)
    assert len({stack.frame_of_reference for stack in stacks.values()}) == 1


@pytest.mark.parametrize("name", ["axial", "sagittal"])
def test_capsule_is_found_at_its_ras(name: str, stacks: dict[str, gm.SliceStack], phantom: Phantom) -> None:
    """The fish-oil capsule on the left of the back: a mirrored or shifted series would have it elsewhere."""
    stack, capsule = stacks[name], phantom.landmark("capsule")
    points = np.stack([plane.points() for plane in stack.planes()])
    near = np.linalg.norm(points - capsule, axis=-1) < 12
    behind = points[..., 1] < capsule[1] + 1.0  # away from the skin
    weight = np.where(near & behind, np.maximum(stack.pixels - 150, 0), 0)
    assert weight.max() > 400
    centre = (weight[..., None] * points).sum((0, 1, 2)) / weight.sum()
    # Half of the ball is used and slices are thick, so the centroid lies a little behind its middle.
    tolerance = np.where(np.abs(stack.normal) > 0.9, 1.5, [0.7, 2.5, 0.7])
    assert np.all(np.abs(centre - capsule) < tolerance), centre - capsule
    assert capsule[0] < -10  # on the patient's left


@pytest.mark.parametrize("name", ["axial", "sagittal"])
def test_pixels_are_the_phantom_at_their_ras(
    name: str, stacks: dict[str, gm.SliceStack], phantom: Phantom
) -> None:
    """Slices averaged over their thickness agree with the phantom where the reader puts them, only there."""
    stack = stacks[name]
    k = stack.shape[0] // 2
    plane = stack.plane(k)
    through = [plane.offset(mm).points()[::2, ::2] for mm in np.linspace(-1.9, 1.9, 9)]

    def error(shift: tuple[float, float]) -> float:
        move = shift[0] * plane.spacing[0] * plane.i_axis + shift[1] * plane.spacing[1] * plane.j_axis
        expected = np.mean([phantom.intensity(points + move) for points in through], axis=0)
        return float(np.sqrt(np.mean((stack.pixels[k, ::2, ::2] / 1000 - expected) ** 2)))

    here = error((0, 0))
    assert here < 0.05
    for shift in ((0.7, 0), (-0.7, 0), (0, 0.7), (0, -0.7)):
        assert error(shift) > here * 1.1


def test_truth_is_the_phantom_on_the_disc(stacks: dict[str, gm.SliceStack], phantom: Phantom) -> None:
    truth = stacks["truth"]
    for k in (0, 4, 8):
        expected = phantom.intensity(truth.plane(k).points())
        np.testing.assert_allclose(truth.pixels[k] / 1000, expected, atol=0.006)
    middle = truth.plane(4)
    np.testing.assert_allclose(middle.ijk_to_ras, phantom.disc_plane("L5-S1").ijk_to_ras, atol=1e-5)


def test_markups_plane_is_the_disc(study: PhantomFiles, phantom: Phantom) -> None:
    plane, disc = gm.ImagePlane.from_markups(study.plane), phantom.disc_plane("L5-S1")
    np.testing.assert_allclose(plane.ijk_to_ras, disc.ijk_to_ras, atol=1e-6)
    assert plane.shape == disc.shape


def test_files_say_that_they_are_synthetic(study: PhantomFiles) -> None:
    import pydicom

    for path in (study.axial, study.sagittal, study.truth):
        files = sorted(path.iterdir())
        dataset = pydicom.dcmread(files[0])
        assert "SYNTHETIC" in dataset.SeriesDescription and dataset.PatientID == f"PHANTOM-{SEED}"
        # Instance numbers run against the position, as they do on many scanners.
        first, last = (pydicom.dcmread(file, stop_before_pixels=True) for file in (files[0], files[-1]))
        normal = np.cross(first.ImageOrientationPatient[:3], first.ImageOrientationPatient[3:])
        assert normal @ np.subtract(first.ImagePositionPatient, last.ImagePositionPatient) > 0
        assert first.InstanceNumber < last.InstanceNumber


def test_t1_series_lie_on_the_slices_of_the_t2_ones(
    tmp_path: Path, phantom: Phantom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one study and frame of reference, called what they are in names and headers; the T2 series are what they were."""
    scanned = []

    def blank(_: Phantom, scan: Scan, *, seed: int) -> np.ndarray:
        scanned.append((scan.name, scan.contrast.name, seed))
        return np.zeros((len(scan.planes), *scan.planes[0].shape), np.float32)

    monkeypatch.setattr(write, "acquire", blank)
    files = write_lumbar_phantom(tmp_path / "both", seed=SEED, sagittal_t1=True)
    assert scanned == [("axial", "T2", 1), ("sagittal", "T2", 2), ("truth", "T2", 3), ("sagittal", "T1", 4)]
    assert files.sagittal_t1 == tmp_path / "both" / "sagittal_t1"
    stacks = gm.read_stacks([files.axial, files.sagittal, files.sagittal_t1])
    found = series_of_study(stacks)
    assert {kind: stack.name for kind, stack in found.sagittal.items()} == {
        "S-T1": "SYNTHETIC T1 sagittal", "S-T2": "SYNTHETIC T2 sagittal",
    }  # fmt: skip
    assert [stack.name for stack in found.axial] == ["SYNTHETIC T2 axial"] and not found.remarks
    t1, t2 = found.sagittal["S-T1"], found.sagittal["S-T2"]
    np.testing.assert_array_equal(t1.ijk_to_ras, t2.ijk_to_ras)
    assert t1.frame_of_reference == t2.frame_of_reference and t1.source["series_uid"] != t2.source["series_uid"]
    assert (t1.source["contrast"]["echo_time"], t1.source["contrast"]["repetition_time"]) == (10, 550)
    # Who has the T2 series from before there was a T1 one has the same.
    assert t2.source["series_uid"] == Study(f"lumbar phantom {SEED} 0.02", SEED).uid("series sagittal")
    alone = write_lumbar_phantom(tmp_path / "alone", seed=SEED)
    assert alone.sagittal_t1 is None and not (tmp_path / "alone" / "sagittal_t1").exists()
    for name in ("axial", "sagittal", "truth"):
        for path in getattr(alone, name).iterdir():
            assert path.read_bytes() == (getattr(files, name) / path.name).read_bytes()


def test_unwritable_folder_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(gm.GaussianMRIError, match="cannot be written"):
        write_lumbar_phantom(tmp_path / "file" / "study")
