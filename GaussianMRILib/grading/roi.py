"""Region of interest of a disc, and stacks of planes aligned with it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..geometry import ImagePlane
from .disc import DiscGeometry, Vector

#: Slices, rows and columns of a network's input ("Rendering Novel Views of MRI", section 3.1).
COUNT, ROWS, COLUMNS = 9, 112, 224
#: mm between resampled planes where nothing else is said: the usual distance of lumbar slices.
SPACING_MM = 4.0
DEPTHS = ("disc", "series", "half")
REFERENCES = ("middle", "mean")


@dataclass(frozen=True, kw_only=True)
class RegionOptions:
    """How a region of interest is read from a disc. The paper leaves some of it open; the first is the default.

    Attributes:
        depth: what "twice the lateral depth of the sagittal slices" is twice of: "disc", the slices that cross the
            disc, centre to centre and one spacing; "series", all slices of the sagittal series; "half", half of
            the former, so that the region is as wide as the disc.
        reference: what "the midpoint of the posterior intersection" is: "middle", the back border half way between
            the outermost slices that cross the disc; "mean", the mean over all these slices, some 3 mm further
            in front because the disc is round.
        row: where in the crop the reference point lies, as a share of its height from the front: 0.5 the middle.
        width: mm of the crop, in place of what follows from the disc; None for that.
        spacing: mm between resampled planes.
        thickness: mm of resampled planes; None for the source slices' thickness by Gaussians, which know the slice
            profile, and thin planes by interpolation, which does not.
        reach: mm along the normal from the reference point within which acquired slices belong to the disc.

    Raises:
        GaussianMRIError: a value that cannot be.
    """

    depth: str = "disc"
    reference: str = "middle"
    row: float = 0.5
    width: float | None = None
    spacing: float = SPACING_MM
    thickness: float | None = None
    reach: float = 30.0

    def __post_init__(self) -> None:
        if self.depth not in DEPTHS or self.reference not in REFERENCES:
            raise GaussianMRIError(
                f"A region's depth is one of {', '.join(DEPTHS)} and its reference one of {', '.join(REFERENCES)}, "
                f"got '{self.depth}' and '{self.reference}'."
            )
        lengths = [self.spacing, self.reach, *([] if self.width is None else [self.width])]
        if not all(np.isfinite(v) and v > 0 for v in lengths) or not 0 <= (self.thickness or 0) < 100:
            raise GaussianMRIError(
                "A region's width, spacing, thickness and reach are lengths in mm above 0."
            )
        if not 0 <= self.row <= 1:
            raise GaussianMRIError(
                f"The reference point's row is a share of the height, 0 to 1, got {self.row}."
            )

    def to_dict(self) -> dict[str, Any]:
        """JSON types only."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Region:
    """A rectangle in the disc's plane, `width` x `width`/2, and the point that slices are chosen by.

    Attributes:
        reference: (3,) RAS mm, r of the paper's Fig. 4.
        width: mm from the patient's right to the left; the height is half of it.
        axes: (3, 3), columns: unit vectors to the left, to the back and along the disc's normal, superior.
        row: share of the height that lies in front of `reference`.
    """

    reference: Vector
    width: float
    axes: NDArray[np.float64]
    row: float = 0.5

    @property
    def height(self) -> float:
        """mm from front to back."""
        return self.width / 2

    def plane(self, thickness: float = 0.0) -> ImagePlane:
        """The crop in the disc's plane: 112 x 224 pixels, columns to the left, rows to the back, normal superior."""
        return crop_plane(self, self.reference, self.axes[:, 0], self.axes[:, 1], thickness)

    def on_plane(self, plane: ImagePlane) -> ImagePlane:
        """The crop of an acquired slice: around the foot of the perpendicular from the reference point.

        Its rows and columns are the region's, projected onto the slice; its normal points superior.

        Raises:
            GaussianMRIError: the slice is perpendicular to the disc.
        """
        normal = plane.normal * np.sign(plane.normal @ self.axes[:, 2] or 1.0)
        foot = self.reference - normal * (normal @ (self.reference - plane.origin))
        left = self.axes[:, 0] - normal * (normal @ self.axes[:, 0])
        if np.linalg.norm(left) < 0.2 or abs(normal @ self.axes[:, 2]) < 0.2:
            raise GaussianMRIError(
                "The slice stands on the disc; only axial and oblique axial slices show it."
            )
        left = left / np.linalg.norm(left)
        return crop_plane(self, foot, left, np.cross(normal, left), plane.thickness)


def crop_plane(region: Region, reference: Vector, left: Vector, back: Vector, thickness: float) -> ImagePlane:
    """`region`'s rectangle of 112 x 224 pixels with its reference point at `reference` (3,) and given unit axes."""
    center = reference + back * (0.5 - region.row) * region.height
    spacing = (region.width / COLUMNS, region.height / ROWS)
    return ImagePlane.from_axes(center, left, back, spacing=spacing, shape=(ROWS, COLUMNS), thickness=thickness)


def region_of(disc: DiscGeometry, options: RegionOptions | None = None) -> Region:
    """The region of interest of a disc, as in the paper's Fig. 4.

    Raises:
        GaussianMRIError: the options ask for the sagittal series' depth and the disc does not know it.
    """
    options = options or RegionOptions()
    width = options.width
    if width is None:
        depth = disc.series_depth if options.depth == "series" else disc.sagittal_depth
        if depth is None:
            raise GaussianMRIError(
                f"The disc {disc.named} from {disc.provenance} does not know the depth of a sagittal series; "
                'use the depth "disc" or give the width.'
            )
        width = depth if options.depth == "half" else 2 * depth
    return Region(_reference(disc, options.reference), float(width), disc.frame[:3, :3].copy(), options.row)


def _reference(disc: DiscGeometry, reading: str) -> Vector:
    """r in the plane of the disc, half way between the outermost slices that cross it."""
    lateral, depth, _ = disc.local(disc.posterior).T
    if reading == "mean":
        place = lateral.mean(), depth.mean()
    else:
        order = np.argsort(lateral)
        middle = (lateral.min() + lateral.max()) / 2
        place = middle, float(np.interp(middle, lateral[order], depth[order]))
    return np.asarray(disc.center + disc.left * place[0] + disc.back * place[1])


def aligned_planes(
    region: Region, count: int = COUNT, spacing: float | None = None, thickness: float = 0.0
) -> list[ImagePlane]:
    """Parallel planes of 112 x 224 pixels aligned with the disc, from inferior to superior, the middle one at r.

    Args:
        region: see `region_of`.
        count: number of planes.
        spacing: mm between them; `SPACING_MM` by default.
        thickness: mm of each; 0 is thin.
    """
    return region.plane(thickness).stack(count, SPACING_MM if spacing is None else spacing)
