"""Writers: what is read back lies where it was, and nothing is left half-written."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_geometry import degrees, directions, rotation, vectors

from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.files import atomic_write
from GaussianMRILib.geometry import ImagePlane, transform_points
from GaussianMRILib.stacks import read_stacks
from GaussianMRILib.writers import write_dicom_series, write_png, write_volume
from GaussianMRILib.writers.volume import volume_affine

NORMAL_FILES = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def oblique(count: int = 3, thickness: float = 0.0) -> list[ImagePlane]:
    turn = rotation((1, 2, 3), 40)
    plane = ImagePlane.from_axes((5, -7, 11), turn[:, 0], turn[:, 1], spacing=(0.5, 0.8), shape=(7, 9), thickness=thickness)
    return plane.stack(count, 2.0)


def pictures(count: int = 3, low: float = 0.0, high: float = 2500.0) -> np.ndarray:
    return np.random.default_rng(count).uniform(low, high, (count, 7, 9)).astype(np.float32)


# ---- volumes


@pytest.mark.parametrize("suffix", [".nrrd", ".nii", ".nii.gz", ".mha"])
@NORMAL_FILES
@given(directions, degrees, vectors, st.integers(1, 4), st.sampled_from([-2.0, 0.7, 3.0]))
def test_a_bright_pixel_in_a_volume(tmp_path: Path, suffix, axis, angle, center, count, step) -> None:
    turn = rotation(axis, angle)
    stack = ImagePlane.from_axes(center, turn[:, 0], turn[:, 1], spacing=(0.5, 0.8), shape=(7, 9)).stack(count, step)
    images = np.zeros((count, 7, 9), np.float32)
    k, row, column = count - 1, 5, 2
    images[k, row, column] = 1000
    path = write_volume(tmp_path / f"v{suffix}", images, stack)
    place = stack[k].points()[row, column]
    tolerance = 2e-3 if ".nii" in suffix else 1e-6
    # SimpleITK reads LPS and is a judge of its own.
    image = sitk.ReadImage(str(path))
    lps = image.TransformIndexToPhysicalPoint((column, row, k))
    np.testing.assert_allclose(np.asarray(lps) * [-1, -1, 1], place, atol=tolerance)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), images)
    (back,) = read_stacks(path)
    kk, jj, ii = np.unravel_index(np.argmax(back.pixels), back.pixels.shape)
    np.testing.assert_allclose(transform_points(back.ijk_to_ras[kk], [ii, jj, 0]), place, atol=tolerance)


@pytest.mark.parametrize("name", ["X.NRRD", "X.Mha", "X.MHA", "X.NII", "X.Nii.gz", "X.NII.GZ", f"{'é' * 120}.nii.gz"])
def test_names_of_volumes_in_capitals_and_long_ones(tmp_path: Path, name: str) -> None:
    images, plane = pictures(3), ImagePlane.from_axes((0, 0, 0), (1, 0, 0), (0, 1, 0), spacing=(1, 1), shape=(7, 9))
    write_volume(tmp_path / name, images, plane.stack(3, 2.0))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    plain = (tmp_path / name).rename(tmp_path / f"x{''.join((tmp_path / name).suffixes).lower()}")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(plain))), images)


def test_affine_of_a_volume_and_the_step_of_one_plane(tmp_path: Path) -> None:
    listed = oblique()
    np.testing.assert_allclose(volume_affine(listed)[:3, 2], 2.0 * listed[0].normal, atol=1e-12)
    assert np.linalg.norm(volume_affine(oblique(1))[:3, 2]) == pytest.approx(0.5)
    assert np.linalg.norm(volume_affine(oblique(1, thickness=4.0))[:3, 2]) == pytest.approx(4.0)
    single = oblique(1)[0]
    write_volume(tmp_path / "one.nrrd", pictures(1)[0], single)
    assert sitk.ReadImage(str(tmp_path / "one.nrrd")).GetSize() == (9, 7, 1)


def test_empty_pixels_are_filled(tmp_path: Path) -> None:
    def values(images: np.ndarray, **options: float) -> np.ndarray:
        path = write_volume(tmp_path / "f.nrrd", images, oblique(1), **options)
        return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))

    images = pictures(1, 30, 90)
    images[0, 0, 0] = np.nan
    assert values(images)[0, 0, 0] == 0
    assert values(images, fill=-5.0)[0, 0, 0] == -5
    images[0, 3, 3] = -900
    assert values(images)[0, 0, 0] == -900
    assert np.all(values(np.full_like(images, np.nan)) == 0)


@pytest.mark.parametrize(
    "listed",
    [
        [*oblique(2), oblique(1)[0].offset(9)],
        [oblique(1)[0], oblique(1)[0]],
        [oblique(1)[0], ImagePlane.from_normal((0, 0, 0), (0, 0, 1), spacing=(0.5, 0.8), shape=(7, 9))],
        [
            ImagePlane.from_axes((0, 0, 0), (1, 0, 0), (0, 1, 0), shape=(7, 9)),
            ImagePlane.from_axes((1, 0, 2), (1, 0, 0), (0, 1, 0), shape=(7, 9)),
        ],
    ],
    ids=["uneven", "same place", "turned", "sheared"],
)
def test_planes_that_make_no_volume(tmp_path: Path, listed: list[ImagePlane]) -> None:
    with pytest.raises(GaussianMRIError, match="no regular volume"):
        write_volume(tmp_path / "v.nrrd", pictures(len(listed)), listed)
    assert not list(tmp_path.iterdir())


def test_images_and_planes_must_fit(tmp_path: Path) -> None:
    for images, listed, reason in [
        (pictures(3), oblique(2), "3 images .* do not fit 2 planes"),
        (np.zeros((3, 9, 7)), oblique(3), "do not fit"),
        (np.zeros(7), oblique(1), r"\(planes, rows, columns\)"),
        (np.full((1, 7, 9), "x"), oblique(1), "real numbers"),
    ]:
        for writer, name in ((write_volume, "v.nrrd"), (write_dicom_series, "series")):
            with pytest.raises(GaussianMRIError, match=reason):
                writer(tmp_path / name, images, listed)
    with pytest.raises(GaussianMRIError, match=r"\.nrrd, \.nii"):
        write_volume(tmp_path / "v.jpg", pictures(), oblique())
    assert not list(tmp_path.iterdir())


def test_unwritable_places(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(GaussianMRIError, match="cannot be written"):
            write_volume(folder / "v.nrrd", pictures(), oblique())
        with pytest.raises(GaussianMRIError, match="cannot be written"):
            write_png(folder / "v.png", pictures()[0])
        with pytest.raises(GaussianMRIError, match="cannot be written"):
            write_dicom_series(folder / "series", pictures(), oblique())
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    """A limit on file size stands in for the disk; ITK's NIfTI writer, for one, says nothing when it is
    hit."""
    import resource

    plane = ImagePlane.from_axes((0, 0, 0), (1, 0, 0), (0, -1, 0), shape=(64, 64))
    images, listed = np.random.default_rng(0).random((4, 64, 64)), plane.stack(4, 2.0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    try:
        for suffix in (".nrrd", ".nii", ".nii.gz", ".mha"):
            for compress in (True, False):
                with pytest.raises(GaussianMRIError, match=r"v\.[a-z.]+ cannot be written: (?!.*Copy it)"):
                    write_volume(tmp_path / f"v{suffix}", images, listed, compress=compress)
        with pytest.raises(GaussianMRIError, match="cannot be written"):
            write_png(tmp_path / "p.png", images[0])
        with pytest.raises(GaussianMRIError, match=r"cannot be written: [^\n]*$"):
            write_dicom_series(tmp_path / "series", images, listed)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_at_the_last_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries in C look at what they write, and not at the block that they write when they close the file."""
    import resource

    from GaussianMRILib.cinematic.dataset_pictures import write_picture
    from GaussianMRILib.priors import patches

    plane = ImagePlane.from_axes((0, 0, 0), (1, 0, 0), (0, -1, 0), shape=(64, 64))
    image = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    render = SimpleNamespace(image=np.repeat(image[..., None], 3, axis=2), alpha=image)
    writers = {
        **{f"v{suffix}": lambda path: write_volume(path, image, plane) for suffix in (".nrrd", ".nii", ".nii.gz", ".mha")},
        "p.png": lambda path: write_png(path, image),
        "r.png": lambda path: write_picture(path, render),
        "r.npy": lambda path: write_picture(path, render),
        "00000.npy": lambda path: patches.write_volume(str(path.parent), 0, False),
    }
    monkeypatch.setattr(patches, "dead_leaves", lambda *_: torch.from_numpy(image))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for name, writer in writers.items():
        path = tmp_path / name
        writer(path)
        size = path.stat().st_size
        path.unlink()
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1, before[1]))
            with pytest.raises(GaussianMRIError, match="cannot be written"):
                writer(path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_a_failure_keeps_the_file_that_was_there(tmp_path: Path, monkeypatch) -> None:
    path = write_volume(tmp_path / "v.nrrd", pictures(), oblique())
    before = path.read_bytes()
    real = os.replace

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_volume(path, pictures(3, 0, 1), oblique())
    with pytest.raises(KeyboardInterrupt):
        write_dicom_series(tmp_path / "series", pictures(), oblique())
    monkeypatch.setattr(os, "replace", real)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["v.nrrd"]
    with pytest.raises(RuntimeError), atomic_write(path):
        raise RuntimeError
    assert path.read_bytes() == before


# ---- pictures


def test_png_has_square_pixels_and_the_window_asked_for(tmp_path: Path) -> None:
    plane = ImagePlane.from_axes((0, 0, 0), (1, 0, 0), (0, -1, 0), spacing=(0.5, 1.0), shape=(7, 9))
    image = np.full((7, 9), 50.0)
    image[:, 4:] = 150
    image[0, 0] = np.nan
    path = write_png(tmp_path / "p.png", image, plane=plane, window=(100, 200))
    levels = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    assert levels.shape == (14, 9) and levels.dtype == np.uint8
    assert np.all(levels[:, :4] == 0) and np.all(levels[:, 4:] == 128)
    square = sitk.GetArrayFromImage(
        sitk.ReadImage(str(write_png(tmp_path / "p.png", image, window=(50, 150))))
    )
    np.testing.assert_array_equal(square[1:], np.where(image[1:] > 100, 255, 0))


def test_png_stretches_about_the_pixel_edges(tmp_path: Path) -> None:
    ramp = np.repeat(np.arange(8.0)[:, None], 8, axis=1)
    plane = ImagePlane.from_axes((0, 0, 0), (1, 0, 0), (0, -1, 0), spacing=(1.0, 2.0), shape=(8, 8))
    path = write_png(tmp_path / "p.png", ramp, plane=plane, window=(0, 7))
    rows = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[:, 0]
    expected = np.clip((np.arange(16) - 0.5) / 2, 0, 7) / 7 * 255
    np.testing.assert_allclose(rows, expected, atol=0.51)


def test_png_default_window_ignores_outliers_and_copes_with_nothing(tmp_path: Path) -> None:
    image = np.linspace(0, 100, 10000).reshape(100, 100)
    image[0, 0] = 1e6
    levels = sitk.GetArrayFromImage(sitk.ReadImage(str(write_png(tmp_path / "p.png", image))))
    assert 120 < levels[50, 0] < 135
    for odd in (np.full((4, 4), 3.0), np.full((4, 4), np.nan), np.zeros((1, 1))):
        write_png(tmp_path / "p.png", odd)
    for bad, reason in [({"window": (3, 3)}, "window"), ({"window": (0, np.nan)}, "window")]:
        with pytest.raises(GaussianMRIError, match=reason):
            write_png(tmp_path / "p.png", image, **bad)
    with pytest.raises(GaussianMRIError, match="one image"):
        write_png(tmp_path / "p.png", pictures())
    with pytest.raises(GaussianMRIError, match="its plane"):
        write_png(tmp_path / "p.png", image, plane=oblique(1)[0])
    with pytest.raises(GaussianMRIError, match=r"\.png"):
        write_png(tmp_path / "p.jpg", image)
