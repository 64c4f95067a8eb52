"""Thick, noisy slices cut from real isotropic scans, so that the image on any plane is known."""

from __future__ import annotations

import dataclasses
import os
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from ..errors import GaussianMRIError
from ..geometry import ImagePlane
from ..stacks import SliceStack, read_stacks
from ..volumes import Volume
from .scoring import BORDER_MM, judged

DIRECTIONS = {"sagittal": 0, "coronal": 1, "axial": 2}  # the RAS axis that the slices are stacked along


@dataclasses.dataclass(frozen=True)
class _Source:
    """A shared scan: its file, the fixed box that the protocol uses, in voxels of the isotropic grid, and their edge, mm."""

    path: str
    box: tuple[slice, slice, slice]
    spacing: float = 1.0


# Lumbar: 84 mm with three whole discs, spine and the soft tissue around it, the full 38 mm of width.
# Head: 84 mm of brain, all of its cross-section. Both have about as many voxels as 20 slices of 112 x 224.
# Head, fine: the size of a region of the paper, 22 axial slices of 112 x 224 pixels as small as a spine's.
SCANS = {
    "lumbar_t2": _Source("mr_spine/sct_lumbar_t2_1mm.nii.gz", (slice(24, 108), slice(32, 176), slice(0, 38))),
    "brain_t1": _Source(
        "mr_dicom/studyforrest_t1_0p67mm.tar.xz", (slice(120, 204), slice(50, 226), slice(20, 160))
    ),
    "brain_t1_fine": _Source(
        "mr_dicom/studyforrest_t1_0p67mm.tar.xz", (slice(178, 310), slice(151, 263), slice(23, 247)), 2 / 3
    ),
}


def load_isotropic(name: str, shared_data: str | os.PathLike[str]) -> Volume:
    """Load the protocol's box of a shared scan, resampled to cubic voxels of 1 mm ('brain_t1_fine': 2/3 mm) where needed.

    Intensities are divided by the whole scan's 99.9th percentile and clipped below at 0 only.

    Args:
        name: a key of `SCANS`: 'lumbar_t2', 'brain_t1' or 'brain_t1_fine'.
        shared_data: the folder that holds the shared scans.

    Raises:
        GaussianMRIError: unknown name, or the file is not there.
    """
    if name not in SCANS:
        raise GaussianMRIError(f"There is no scan {name!r}; choose one of {', '.join(SCANS)}.")
    pixels, ijk_to_ras = _read(Path(shared_data) / SCANS[name].path)
    scale = np.percentile(pixels, 99.9)
    pixels, ijk_to_ras = resample_isotropic(pixels, ijk_to_ras, SCANS[name].spacing, SCANS[name].box)
    return Volume(np.maximum(pixels / scale, 0).astype(np.float32), ijk_to_ras, name=name)


def resample_isotropic(
    pixels: np.ndarray, ijk_to_ras: np.ndarray, spacing: float, box: tuple[slice, slice, slice] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Resample a volume to cubic voxels by cubic spline, after the Gaussian that prevents aliasing.

    The Gaussian widens an axis' point spread (full width at half maximum = voxel) from its spacing to the
    new one (Cardoso et al., MICCAI 2015); an axis that is not made coarser is not blurred.

    Args:
        pixels: (K, rows, columns); ijk_to_ras: (4, 4) mm.
        spacing: edge of the new voxels, mm. The first voxel keeps its centre.
        box: part of the new grid to return, as [k, j, i] slices with start and stop; default: all of it.

    Returns:
        float32 pixels and the affine of the returned part.
    """
    from scipy.interpolate import make_interp_spline
    from scipy.ndimage import gaussian_filter

    parts: tuple[slice, ...]
    step = np.linalg.norm(ijk_to_ras[:3, :3], axis=0)[::-1]  # [k, j, i]
    factor = spacing / step
    if np.allclose(factor, 1, atol=1e-4):
        pixels = pixels.astype(np.float32)
        parts = box or tuple(slice(0, n) for n in pixels.shape)
        result = pixels[parts]
    else:
        shape = np.floor((np.array(pixels.shape) - 1) / factor).astype(int) + 1
        parts = box or tuple(slice(0, n) for n in shape)
        sigma = np.sqrt(np.maximum(factor**2 - 1, 0)) / (2 * np.sqrt(2 * np.log(2)))
        margin = 16  # voxels, far beyond the reach of the Gaussian and of the spline's prefilter
        begin = [max(int(part.start * f) - margin, 0) for part, f in zip(parts, factor, strict=True)]
        end = [int(part.stop * f) + margin for part, f in zip(parts, factor, strict=True)]
        result = pixels[tuple(slice(*ends) for ends in zip(begin, end, strict=True))].astype(np.float32)
        result = gaussian_filter(result, sigma, mode="nearest")
        for axis, part in enumerate(parts):  # separable: one axis at a time, each on a smaller array
            index = np.arange(part.start, part.stop) * factor[axis] - begin[axis]
            spline = make_interp_spline(np.arange(result.shape[axis]), result, k=3, axis=axis)
            result = spline(index).astype(np.float32)
    affine = np.array(ijk_to_ras, dtype=np.float64)
    affine[:3, :3] *= factor[::-1]
    affine[:3, 3] += affine[:3, :3] @ [part.start for part in parts[::-1]]
    return np.ascontiguousarray(result, dtype=np.float32), affine


def simulate_stack(
    scan: Volume,
    *,
    direction: str = "axial",
    thickness: float = 4.0,
    spacing: float = 4.0,
    noise: float = 0.01,
    seed: int = 0,
) -> SliceStack:
    """Acquire thick slices of a scan: a box profile across each slice, then Rician noise.

    Args:
        scan: the isotropic scan; in-plane pixels of the slices are its voxels.
        direction: 'axial', 'sagittal' or 'coronal': the scan's own axis nearest to that patient axis.
        thickness: width of the box, mm. At 4 mm on 1 mm voxels a slice is the mean of 4 voxels.
        spacing: distance between slice centres, mm; the first slice begins at the scan's edge.
        noise: standard deviation of the two noise channels, in units of the normalised intensity.
        seed: of the noise.

    Raises:
        GaussianMRIError: unknown direction, or the scan is thinner than one slice.
    """
    if direction not in DIRECTIONS:
        raise GaussianMRIError(f"The direction must be one of {', '.join(DIRECTIONS)}, got {direction!r}.")
    cosines = scan.ijk_to_ras[:3, :3] / scan.spacing
    axis = int(np.abs(cosines[DIRECTIONS[direction]]).argmax())  # 0 = i, 1 = j, 2 = k
    order = {2: (0, 1, 2), 1: (1, 0, 2), 0: (2, 0, 1)}[axis]  # array axes: slice, row, column
    pixels = scan.pixels.transpose(order).astype(np.float64)
    extent = pixels.shape[0] * scan.spacing
    count = int((extent - thickness) / spacing + 1e-6) + 1
    if extent < thickness:
        raise GaussianMRIError(
            f"The scan {scan.name!r} is {extent:.1f} mm wide, less than one {thickness} mm slice."
        )
    start = np.arange(count) * spacing  # lower edge of each slice, mm from the scan's edge
    edges = np.arange(pixels.shape[0] + 1) * scan.spacing
    overlap = np.minimum(edges[1:], start[:, None] + thickness) - np.maximum(edges[:-1], start[:, None])
    profile = np.maximum(overlap, 0) / thickness
    slices = np.tensordot(profile, pixels, axes=1)
    generator = np.random.default_rng(seed)
    real, imaginary = generator.normal(0, noise, (2, *slices.shape)) if noise > 0 else (0.0, 0.0)
    slices = np.hypot(slices + real, imaginary)

    affine = np.eye(4)
    affine[:3, :3] = scan.ijk_to_ras[:3, :3][:, [2 - order[2], 2 - order[1], axis]]
    affine[:3, 2] *= spacing / scan.spacing
    affine[:3, 3] = scan.ijk_to_ras[:3, 3] + cosines[:, axis] * (thickness - scan.spacing) / 2
    return SliceStack.from_array(
        slices.astype(np.float32), affine, thickness=thickness, name=f"{scan.name} {direction}"
    )


def oblique_planes(
    stack: SliceStack, *, count: int = 12, tilt: tuple[float, float] = (5.0, 30.0), seed: int = 0
) -> list[ImagePlane]:
    """Planes tilted against a stack's slices, near the middle of the slab, as large as a slice, 1 mm pixels.

    Tilts are spread evenly over `tilt` (degrees), about in-plane axes at random; centres are at random
    within the middle half of the slab along its normal and within 5 mm of its axis.
    """
    generator = np.random.default_rng(seed)
    middle = stack.plane(len(stack.pixels) // 2)
    positions = stack.positions
    slab = positions[-1] - positions[0]
    to_middle = (positions[0] + positions[-1]) / 2 - positions[len(positions) // 2]
    pitch = middle.spacing  # mm along i, j
    shape = (round(middle.shape[0] * pitch[1]), round(middle.shape[1] * pitch[0]))
    planes = []
    for angle in np.radians(np.linspace(*tilt, count)):
        azimuth = generator.uniform(0, 2 * np.pi)
        axis = np.cos(azimuth) * middle.i_axis + np.sin(azimuth) * middle.j_axis
        center = (
            middle.center
            + middle.normal * (to_middle + generator.uniform(-0.25, 0.25) * slab)
            + middle.i_axis * generator.uniform(-5, 5)
            + middle.j_axis * generator.uniform(-5, 5)
        )
        planes.append(
            ImagePlane.from_axes(
                center,
                _rotate(middle.i_axis, axis, angle),
                _rotate(middle.j_axis, axis, angle),
                spacing=(1.0, 1.0),
                shape=shape,
            )
        )
    return planes


def truth(
    scan: Volume,
    plane: ImagePlane,
    thick: bool,
    *,
    stacks: list[SliceStack] | None = None,
    thickness: float = 4.0,
    border: float = BORDER_MM,
) -> np.ndarray:
    """The scan's image on a plane, (rows, columns) float32, NaN where it must not be judged.

    Args:
        thick: average over a box of `thickness` mm along the plane's normal (every half millimetre) instead
            of a thin plane.
        stacks: pixels within `border` mm of the edge of any of these stacks' slabs are NaN, so that how a
            method treats borders does not matter.
    """
    points = plane.points()
    if thick:
        count = max(round(thickness / 0.5), 1)
        offsets = (np.arange(count) + 0.5) / count * thickness - thickness / 2
        image = np.mean([scan.at(points + offset * plane.normal) for offset in offsets], axis=0)
    else:
        image = scan.at(points)
    return judged(image, plane, [stack.hulls() for stack in stacks or []], border=border)


def _rotate(vector: np.ndarray, axis: np.ndarray, angle: float) -> np.ndarray:
    """Rodrigues' rotation of a vector about a unit axis, radians."""
    return (
        vector * np.cos(angle)
        + np.cross(axis, vector) * np.sin(angle)
        + axis * (axis @ vector) * (1 - np.cos(angle))
    )


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and affine of a regular volume: an image file, or one DICOM series packed in a tar file."""
    if not path.exists():
        raise GaussianMRIError(f"{path} is not there; give the folder of the shared scans.")
    if ".tar" not in path.name:
        stacks = read_stacks(path)
    else:
        with tempfile.TemporaryDirectory() as folder, tarfile.open(path) as archive:
            if hasattr(tarfile, "data_filter"):
                archive.extractall(folder, filter="data")
            else:  # Python before 3.10.12 and 3.11.4
                archive.extractall(folder)
            stacks = read_stacks(folder)
    grid = stacks[0].grid()
    if len(stacks) != 1 or grid is None:
        raise GaussianMRIError(f"{path} does not hold exactly one regular volume.")
    return stacks[0].pixels, grid
