"""The commands a researcher types, on real scans: from files to an oblique image, and better than interpolation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from click.testing import CliRunner

import GaussianMRILib as gm
from GaussianMRILib.cli import main
from GaussianMRILib.priors.network_prior import network_prior


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def box_around(stack: gm.SliceStack, half: float) -> list[float]:
    middle = stack.plane(len(stack.pixels) // 2).center
    return [round(float(v), 1) for c in middle for v in (c - half, c + half)]


def check_oblique(source: Path, folder: Path, half: float) -> None:
    """inspect, fit a box in the middle, resample a tilted plane; the image must be the scan's own anatomy there."""
    stack = gm.read_stacks(source)[0]
    assert f"{stack.shape[0]}" in run("inspect", source)
    field, output, picture = folder / "field.npz", folder / "oblique.nrrd", folder / "oblique.png"
    run("fit", source, "-o", field, "--roi", *box_around(stack, half), "-q")
    middle = stack.plane(len(stack.pixels) // 2)
    normal = middle.normal + 0.3 * middle.j_axis
    plane = [
        "--center",
        *middle.center,
        "--normal",
        *normal,
        "--size",
        48,
        48,
        "--spacing",
        1,
        "--thickness",
        0,
    ]
    run("resample", field, *plane, "-o", output, "--png", picture, "-q")
    image = sitk.ReadImage(str(output))
    # NRRD is LPS: the middle of the image must be the place that was asked for.
    size = image.GetSize()
    lps = image.TransformContinuousIndexToPhysicalPoint([(size[0] - 1) / 2, (size[1] - 1) / 2, 0.0])
    assert np.allclose(np.array(lps) * [-1, -1, 1], middle.center, atol=1e-3)
    target = gm.ImagePlane.from_normal(middle.center, normal, spacing=(1, 1), shape=(48, 48))
    spline = gm.spline_interpolation([stack], target)
    # Look the pixels up by their place, as any viewer does: a file may order them as its format likes.
    values = np.zeros(target.shape)
    array = sitk.GetArrayFromImage(image)
    for at, point in zip(np.ndindex(target.shape), target.points().reshape(-1, 3), strict=True):
        i, j, k = image.TransformPhysicalPointToIndex((point * [-1, -1, 1]).tolist())
        values[at] = array[k, j, i]
    inside = np.isfinite(spline) & (values != array[0, 0, 0])  # the fill value: the corner lies outside
    assert inside.mean() > 0.3 and np.ptp(values[inside]) > 0
    assert np.corrcoef(values[inside], spline[inside])[0, 1] > 0.9
    assert picture.stat().st_size > 500


@pytest.mark.parametrize(
    "name",
    [
        "sct019_axial_mt0_5mm",
        pytest.param("sct019_axial_mt1_5mm", marks=pytest.mark.slow),
        pytest.param("sct_ms_axial_t2_7p5mm", marks=pytest.mark.slow),
    ],
)
def test_sparse_spine_volumes(shared_data, tmp_path, name):
    check_oblique(shared_data / "mr_spine" / f"{name}.nii.gz", tmp_path, 22)


@pytest.mark.slow
def test_isotropic_lumbar_volume(shared_data, tmp_path):
    check_oblique(shared_data / "mr_spine" / "sct_lumbar_t2_1mm.nii.gz", tmp_path, 16)


@pytest.mark.slow
def test_dicom_brain_with_a_missing_slice(extracted, tmp_path):
    source = extracted("mr_dicom/adi_ax_fse_t2_2p5mm.tar.xz")
    check_oblique(source, tmp_path, 18)
    stack = gm.read_stacks(source)[0]
    middle = stack.plane(len(stack.pixels) // 2)
    derived = tmp_path / "derived"
    run(
        *("resample", tmp_path / "field.npz", "--center", *middle.center, "--normal", 0, 0.3, 0.95),
        *("--size", 40, 40, "--spacing", 0.8, "--count", 3, "--step", 1, "-o", tmp_path / "three.nii.gz"),
        *("--dicom", derived, "--source", source, "-q"),
    )
    (again,) = gm.read_stacks(derived)
    volume = sitk.ReadImage(str(tmp_path / "three.nii.gz"))
    assert again.shape == (3, 40, 40) and again.frame_of_reference == stack.frame_of_reference
    expected = sitk.GetArrayFromImage(volume)
    centre = np.array(volume.TransformContinuousIndexToPhysicalPoint([19.5, 19.5, 1.0])) * [-1, -1, 1]
    assert np.allclose(again.plane(1).center, centre, atol=1e-2)
    order = slice(None) if again.normal @ np.array([0, 0.3, 0.95]) > 0 else slice(None, None, -1)
    assert np.abs(again.pixels[order] - expected).max() <= 0.51 * max(1.0, np.ptp(expected) / 4095)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sct019_axial_mt0_5mm", "sct_ms_axial_t2_7p5mm"])
def test_left_out_slices_are_predicted_better_than_by_interpolation(shared_data, name):
    whole = gm.read_stacks(shared_data / "mr_spine" / f"{name}.nii.gz")[0]
    rows, columns = (n // 2 for n in whole.shape[1:])
    stack = whole.window(slice(rows - 48, rows + 48), slice(columns - 48, columns + 48))
    pixels = stack.pixels
    rest, left_out = stack.subset(np.arange(0, len(pixels), 2)), range(3, len(pixels) - 3, 2)
    field = gm.fit(rest)

    def error(render) -> float:
        images = [render(stack.plane(k)) for k in left_out]
        return float(
            np.mean(
                [
                    gm.psnr(i, stack.pixels[k], data_range=pixels.max())
                    for i, k in zip(images, left_out, strict=True)
                ]
            )
        )

    ours = error(field.render)
    assert ours > error(lambda plane: gm.spline_interpolation(rest, plane, slice_profile=False)) + 0.3
    assert ours > error(lambda plane: gm.voxel_interpolation(rest, plane)) + 0.3
    # In gaps of 10 and 15 mm the field is unsure: it must not spoil its own first guess.
    assert ours > error(network_prior(rest, turns=2).sample)


@pytest.mark.slow
def test_default_fit_beats_every_baseline_on_a_real_scan(shared_data):
    """A part of the quality benchmark: thin oblique truth of a real 3D scan."""
    from GaussianMRILib.baselines import SplineInterpolator
    from GaussianMRILib.evaluation import quality_case, score
    from GaussianMRILib.priors.ridge import ridge_prior

    case = quality_case("lumbar_t2", shared_data)
    field = gm.fit(case.stacks)
    ours = score([field.render(plane) for plane in case.planes], case.thin)
    for other, gain in (
        (gm.baselines.VoxelInterpolator(case.stacks).render, 1.6),
        (SplineInterpolator(case.stacks, slice_profile=False).render, 0.9),
        (SplineInterpolator(case.stacks).render, 0.5),
        (ridge_prior(case.stacks[0]).sample, 0.3),
        (network_prior(case.stacks[0], turns=2).sample, 0.2),
    ):
        theirs = score([other(plane) for plane in case.planes], case.thin)
        assert ours.psnr > theirs.psnr + gain and ours.ssim > theirs.ssim
