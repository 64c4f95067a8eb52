"""From a disc and a scan to what a network sees: nine images of 112 x 224 pixels around the back of the disc."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..geometry import ImagePlane
from ..stacks import SliceStack, as_stacks, check_same_frame
from .disc import DiscGeometry, angle_degrees
from .labels import INPUT_TYPES
from .roi import COLUMNS, COUNT, ROWS, Region, RegionOptions, aligned_planes, region_of

if TYPE_CHECKING:
    from ..gaussians import GaussianField

#: Acquired slices within this angle of the disc are aligned ("A"), others not ("N"). The data set has no such label.
ALIGNED_DEGREES = 10.0
#: Input types that are resampled: by voxel interpolation and by Gaussians.
RESAMPLED = ("R-VI", "R-GS")
#: What axial networks can be shown: acquired slices as they are (A or N, by their angle), or planes aligned with the disc.
AXIAL_KINDS = ("acquired", *RESAMPLED)
#: Changes whenever the same disc and scan give other images: a network is good for one version only.
PREPROCESSING_VERSION = 1
MEDIAN_LEVEL, BRIGHTEST = 0.5, 2.0
_MARGIN = 8.0  # mm around the planes that a fit or an interpolation still gets
_FEWEST = 60  # pixels of vertebra that make a median
_EMPTY = 0.99  # share outside the scan from which on there is nothing to see

Progress = Callable[[float, str], object]


class FewVertebrae(GaussianMRIError):
    """Slices lie at a disc, and too few of their pixels show the vertebrae beside it."""


@dataclass(frozen=True, eq=False)
class GradingInput:
    """What one network sees of one disc.

    Attributes:
        images: (9, 112, 224) float32, 0 to 1, from inferior to superior; columns run to the patient's left, rows to the
            back (sagittal ones: see `sagittal_input`). What lies outside the scan is 0.
        mask: (9,) bool: False where there is no slice and the image is padding.
        planes: where each image lies; those of padding repeat a neighbour's.
        input_type: one of `INPUT_TYPES`.
        outside: share of the pixels outside the scan, 0 to 1, over the acquired slices or all resampled planes.
        facts: how the images were made; JSON types only.

    Raises:
        GaussianMRIError: shapes that do not fit, values outside 0 to 1, no slice at all, an unknown type.
    """

    images: NDArray[np.float32]
    mask: NDArray[np.bool_]
    planes: tuple[ImagePlane, ...]
    input_type: str
    outside: float
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        images = np.ascontiguousarray(self.images, dtype=np.float32)
        mask = np.asarray(self.mask, dtype=bool)
        if images.shape != (COUNT, ROWS, COLUMNS) or mask.shape != (COUNT,) or len(self.planes) != COUNT:
            raise GaussianMRIError(
                f"A network's input is {(COUNT, ROWS, COLUMNS)} with a mask and a plane for each slice, got "
                f"{images.shape}, {mask.shape} and {len(self.planes)} planes."
            )
        if not (np.isfinite(images).all() and images.min() >= 0 and images.max() <= 1):
            raise GaussianMRIError("A network's input has values from 0 to 1 only.")
        if not mask.any() or self.input_type not in INPUT_TYPES or not 0 <= self.outside <= 1:
            raise GaussianMRIError(
                f"A network's input has at least one slice, a type of {', '.join(INPUT_TYPES)} and a share outside "
                f"from 0 to 1, got {int(mask.sum())}, '{self.input_type}' and {self.outside}."
            )
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "mask", mask)
        object.__setattr__(self, "planes", tuple(self.planes))

    @property
    def count(self) -> int:
        """Slices that are not padding."""
        return int(self.mask.sum())

    @property
    def remarks(self) -> tuple[str, ...]:
        """What has to stand beside whatever is said of it."""
        if "vertebral_median_of" not in self.facts:
            return ()
        level = self.facts["vertebral_median_of"]
        return (f"intensities are scaled by the vertebrae beside {level}, as too few pixels show its own",)


# ---- what is there to choose from --------------------------------------------------------------------------


def alignment_degrees(disc: DiscGeometry, stack: SliceStack) -> float:
    """Angle between the disc's normal and that of the slice nearest to the disc, 0 to 90 degrees."""
    return angle_degrees(stack.ijk_to_ras[_nearest(disc, stack), :3, 2], disc.normal)


def _nearest(disc: DiscGeometry, stack: SliceStack) -> int:
    return int(np.argmin(np.abs(stack.distances(disc.center))))


def vertebral_median(stacks: SliceStack | Sequence[SliceStack], disc: DiscGeometry) -> float:
    """Median intensity of the vertebrae above and below a disc, the measure that intensities are divided by.

    The pixels of two boxes count, in the middle half of the disc's width and depth, from 2 to 16 mm beyond the end
    plates.

    Raises:
        FewVertebrae: the slices end at the disc.
        GaussianMRIError: no slice lies at the disc, or the vertebrae are black.
    """
    from ..fitting.problem import crop

    stacks = as_stacks(stacks)
    half = (disc.height or 10.0) / 2
    depth = float(np.mean(disc.local(disc.posterior)[:, 1] - disc.local(disc.anterior)[:, 1]))
    reach = np.array([disc.sagittal_depth / 4, max(depth, 20.0) / 4])
    radius = float(np.linalg.norm([*reach, half + 16]))
    around = np.stack([disc.center - radius, disc.center + radius], axis=1)
    values = []
    for stack in stacks:
        part = crop(stack, around)
        if part is None:
            continue
        for plane, pixels in zip(part.planes(), part.pixels, strict=True):
            local = disc.local(plane.points())
            height = np.abs(local[..., 2])
            inside = (
                (np.abs(local[..., :2]) <= reach).all(axis=-1) & (height >= half + 2) & (height <= half + 16)
            )
            values.append(pixels[inside])
    found = np.concatenate(values) if values else np.empty(0)
    names = ", ".join(dict.fromkeys(stack.name for stack in stacks))
    nearest = min(float(np.abs(stack.distances(disc.center)).min()) for stack in stacks)
    if not len(found) and nearest > half + 16:
        raise GaussianMRIError(
            f"{names}: no slice lies at {disc.named}; the nearest is {nearest:.0f} mm away. Choose a series that shows this "
            "level."
        )
    if len(found) < _FEWEST:
        raise FewVertebrae(
            f"{names}: only {len(found)} pixels show the vertebrae beside {disc.named}, too few to scale the "
            "intensities by. The slices end at the disc; use a series that reaches further."
        )
    median = float(np.median(found))
    if not median > 0:
        raise GaussianMRIError(
            f"{names}: the vertebrae beside {disc.named} have a median intensity of {median:g}. "
            "The disc does not lie where this scan shows a spine; check that both are of one patient."
        )
    return median


def series_median(
    disc: DiscGeometry, stacks: Sequence[SliceStack], others: Sequence[DiscGeometry] = ()
) -> tuple[float, str]:
    """`vertebral_median` of a series, which has one scale: where its slices end at a disc, at the nearest that it can be.

    Args:
        stacks: all slabs of the series.
        others: further discs of the study.

    Returns:
        the median, and the level of the other disc that it is of; "" for `disc`.

    Raises:
        GaussianMRIError: see `vertebral_median`; of `disc`.
    """
    try:
        return vertebral_median(stacks, disc), ""
    except FewVertebrae:
        beside = [other for other in others if other.level != disc.level]
        for other in sorted(beside, key=lambda other: float(np.linalg.norm(other.center - disc.center))):
            try:
                return vertebral_median(stacks, other), other.level
            except GaussianMRIError:
                continue
        raise


def scaled_at(images: GradingInput, level: str) -> GradingInput:
    """The same with the level at which `series_median` was taken among its facts; "" for the disc's own."""
    return replace(images, facts=images.facts | {"vertebral_median_of": level}) if level else images


def normalised(images: NDArray[np.float32], median: float) -> NDArray[np.float32]:
    """x / median * 0.5, clipped to 0 to 2, halved; NaN becomes 0."""
    scaled = np.nan_to_num(images, nan=0.0) * np.float32(MEDIAN_LEVEL / median)
    return np.asarray(np.clip(scaled, 0, BRIGHTEST) / BRIGHTEST, dtype=np.float32)


# ---- acquired slices ---------------------------------------------------------------------------------------


def acquired_input(
    disc: DiscGeometry,
    stack: SliceStack,
    options: RegionOptions | None = None,
    median: float | None = None,
    aligned_degrees: float = ALIGNED_DEGREES,
) -> GradingInput:
    """The nine acquired slices nearest the back of a disc, cropped to its region.

    Fewer slices are padded: the nearest slice stays in the middle as far as that is possible.

    Args:
        disc: in the frame of reference of the stack.
        stack: axial or oblique axial slices, in any order.
        options: of the region.
        median: intensity of the vertebrae, in place of `vertebral_median`.
        aligned_degrees: angle up to which slices are of type "A".

    Raises:
        GaussianMRIError: sagittal slices, none near the disc, or none that shows the region.
    """
    options = options or RegionOptions()
    region = region_of(disc, options)
    try:
        planes = [region.on_plane(plane) for plane in stack.planes()]
    except GaussianMRIError as error:
        raise GaussianMRIError(f"{stack.name} and {disc.named}: {error}") from error
    height = np.array([(plane.center - region.reference) @ plane.normal for plane in planes])
    order = np.argsort(np.abs(height), kind="stable")[:COUNT]
    order = order[np.abs(height[order]) <= options.reach]
    if not len(order):
        raise GaussianMRIError(
            f"{stack.name}: no slice lies within {options.reach:g} mm of {disc.named}; the nearest is "
            f"{np.abs(height).min():.0f} mm away. Choose a series that shows this level."
        )
    order = order[np.argsort(height[order], kind="stable")]
    images = np.stack([crop_slice(stack, k, planes[k]) for k in order])
    outside = share_outside(images, stack.name, disc)
    near = int(np.argmin(np.abs(height[order])))
    nearest = stack.subset(order[[near]])  # blocks of one stack have angles of their own
    angle = alignment_degrees(disc, nearest)
    median = vertebral_median(stack, disc) if median is None else float(median)
    facts = input_facts(disc, region, options, [nearest], median) | {
        "spacing_mm": round(stack.spacing, 3),
        "thickness_mm": round(stack.thickness, 3),
        "nearest_mm": round(float(np.abs(height[order]).min()), 3),
    }
    kind = "A" if angle <= aligned_degrees else "N"
    return _padded(normalised(images, median), [planes[k] for k in order], near, kind, outside, facts)


def crop_slice(stack: SliceStack, k: int, plane: ImagePlane) -> NDArray[np.float32]:
    """Slice `k` on `plane`, which lies in it, by cubic spline; NaN outside its pixels."""
    from scipy.ndimage import map_coordinates

    inverse = np.linalg.inv(stack.ijk_to_ras[k])
    column, row = np.moveaxis(plane.points() @ inverse[:2, :3].T + inverse[:2, 3], -1, 0)
    rows, columns = stack.shape[1:]
    inside = (np.abs(row - (rows - 1) / 2) <= rows / 2) & (np.abs(column - (columns - 1) / 2) <= columns / 2)
    if not inside.any():
        return np.full(plane.shape, np.nan, np.float32)
    # Only the pixels around the crop go through the spline's filter.
    first = np.maximum(np.floor([row[inside].min(), column[inside].min()]).astype(int) - 8, 0)
    last = np.ceil([row[inside].max(), column[inside].max()]).astype(int) + 9
    window = stack.pixels[k, first[0] : last[0], first[1] : last[1]]
    values = map_coordinates(window, [row - first[0], column - first[1]], order=3, mode="nearest")
    return np.where(inside, values, np.float32(np.nan)).astype(np.float32)


def _padded(
    images: NDArray[np.float32],
    planes: Sequence[ImagePlane],
    nearest: int,
    input_type: str,
    outside: float,
    facts: dict[str, Any],
    seen: NDArray[np.bool_] | None = None,
) -> GradingInput:
    first = int(np.clip(COUNT // 2 - nearest, 0, COUNT - len(images)))
    slots = np.clip(np.arange(COUNT) - first, 0, len(images) - 1)
    mask = slots == np.arange(COUNT) - first
    if seen is not None:
        mask &= seen[slots]
    filled = np.where(mask[:, None, None], images[slots], np.float32(0))
    return GradingInput(
        filled,
        mask,
        tuple(planes[k] for k in slots),
        input_type,
        outside,
        facts | {"slices": int(mask.sum())},
    )


def share_outside(images: NDArray[np.float32], name: str, disc: DiscGeometry) -> float:
    """Share of NaN in images of a region.

    Raises:
        GaussianMRIError: there is nothing else.
    """
    outside = float(np.isnan(images).mean())
    if outside > _EMPTY:
        raise GaussianMRIError(
            f"{name} does not show the region of {disc.named}: {outside:.0%} of it lies outside the scan. "
            "Choose another series, or check that disc and scan are of one study."
        )
    return outside


def input_facts(
    disc: DiscGeometry, region: Region, options: RegionOptions, stacks: Sequence[SliceStack], median: float
) -> dict[str, Any]:
    """How images were made: what every `GradingInput` has among its facts."""
    return {
        "preprocessing": PREPROCESSING_VERSION,
        "level": disc.level,
        "disc": disc.provenance,
        "stacks": [stack.name for stack in stacks],
        "alignment_degrees": round(min(alignment_degrees(disc, stack) for stack in stacks), 2),
        "width_mm": round(region.width, 3),
        "reference_ras": [round(float(v), 3) for v in region.reference],
        "vertebral_median": median,
        "options": options.to_dict(),
    }


# ---- resampled planes --------------------------------------------------------------------------------------


def resampled_input(
    disc: DiscGeometry,
    stacks: SliceStack | Sequence[SliceStack],
    method: str,
    options: RegionOptions | None = None,
    device: str = "cpu",
    fit_options: Mapping[str, Any] | None = None,
    field: GaussianField | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    planes: Sequence[ImagePlane] | None = None,
    median: float | None = None,
) -> GradingInput:
    """Nine planes aligned with the disc, resampled from slices that need not be.

    Args:
        disc: in the frame of reference of the stacks.
        stacks: one or several, of one contrast.
        method: "R-VI", the paper's voxel interpolation, or "R-GS", fitted Gaussians.
        options: of the region, and spacing and thickness of the planes.
        device: for a fit.
        fit_options: further arguments of `Fitter`, such as `{"preset": "paper"}`.
        field: an existing fit of these stacks that reaches around the planes, in place of a new one.
        progress: called with the fraction done (0 to 1) and what is going on.
        cancelled: asked now and then; True ends the work.
        planes: 112 x 224 pixels each, at most nine, from inferior to superior, in place of those of `options`.
        median: intensity of the vertebrae, in place of `vertebral_median`.

    Raises:
        GaussianMRIError: an unknown method, stacks of different frames, planes outside the scan, a cancel.
    """
    if method not in RESAMPLED:
        raise GaussianMRIError(f"'{method}' is no method of resampling; use {' or '.join(RESAMPLED)}.")
    options = options or RegionOptions()
    stacks = as_stacks(stacks)
    if not stacks:
        raise GaussianMRIError("There is no stack to resample; pass at least one.")
    check_same_frame(stacks)
    region = region_of(disc, options)
    if planes is None:
        thickness = options.thickness
        if thickness is None:
            thickness = float(np.median([s.thickness for s in stacks])) if method == "R-GS" else 0.0
        planes = aligned_planes(region, COUNT, options.spacing, thickness)
    if not 0 < len(planes) <= COUNT or any(plane.shape != (ROWS, COLUMNS) for plane in planes):
        raise GaussianMRIError(f"An input has 1 to {COUNT} planes of {ROWS} x {COLUMNS} pixels.")
    median = vertebral_median(stacks, disc) if median is None else float(median)
    render = _renderer(disc, stacks, method, planes, device, dict(fit_options or {}), field, progress, cancelled)
    images = []
    for number, plane in enumerate(planes):
        _check(cancelled)
        images.append(render(plane))
        if progress:
            progress(0.9 + 0.1 * (number + 1) / len(planes), "resampling planes")
    found = np.stack(images)
    outside = share_outside(found, ", ".join(stack.name for stack in stacks), disc)
    height = [abs(float((plane.center - region.reference) @ region.axes[:, 2])) for plane in planes]
    # A plane wholly outside the scan is as good as none.
    seen = np.array([np.isfinite(image).any() for image in found])
    facts = input_facts(disc, region, options, stacks, median) | {
        "spacing_mm": round(_step(planes), 3),
        "thickness_mm": round(planes[0].thickness, 3),
        "nearest_mm": round(min(height), 3),
    }
    return _padded(normalised(found, median), planes, int(np.argmin(height)), method, outside, facts, seen)


def _step(planes: Sequence[ImagePlane]) -> float:
    steps = [float((b.center - a.center) @ a.normal) for a, b in itertools.pairwise(planes)]
    return float(np.median(steps)) if steps else 0.0


def _check(cancelled: Callable[[], bool] | None) -> None:
    if cancelled is not None and cancelled():
        raise GaussianMRIError("Resampling was cancelled.")


def _renderer(
    disc: DiscGeometry,
    stacks: Sequence[SliceStack],
    method: str,
    planes: Sequence[ImagePlane],
    device: str,
    fit_options: dict[str, Any],
    field: GaussianField | None,
    progress: Progress | None,
    cancelled: Callable[[], bool] | None,
) -> Callable[[ImagePlane], NDArray[np.float32]]:
    from ..fitting.problem import crop

    corners = np.concatenate([plane.corners() for plane in planes])
    reach = _MARGIN + max(plane.thickness for plane in planes) / 2
    box = np.stack([corners.min(axis=0) - reach, corners.max(axis=0) + reach], axis=1)
    near = [part for stack in stacks if (part := crop(stack, box)) is not None]
    if not near:
        raise GaussianMRIError(
            f"{', '.join(stack.name for stack in stacks)}: no slice reaches the planes of {disc.named}. "
            "Choose another series, or check that disc and scan are of one study."
        )
    if method == "R-VI":
        from ..baselines import VoxelInterpolator

        if progress:
            progress(0.0, "voxel interpolation")
        return VoxelInterpolator(near).render
    if field is not None:
        return field.render
    from ..fitting import Fitter

    fitter = Fitter(near, device=device, **fit_options)
    for step in fitter:
        _check(cancelled)
        if progress:
            progress(0.9 * step.fraction, f"fitting Gaussians: {step.stage}")
    return fitter.field.render
