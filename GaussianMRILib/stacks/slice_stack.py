"""Acquired slices, each with its own pose."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError
from ..geometry.affine import (
    all_of,
    check_affine,
    check_spacing,
    inside_hull,
    numbers,
    plain_array,
    slice_normal,
    slice_poses,
    unit_vector,
)
from ..geometry.plane import ImagePlane
from .poses import (
    SliceColumns,
    centers,
    columns_of,
    connected_runs,
    normals_towards_increasing_k,
    parallel_runs,
    usual_spacing,
)

#: Slices count as one regular grid when no pixel lies further than this (mm) from where the grid has it.
GRID_TOLERANCE_MM = 0.02


@dataclass(frozen=True, eq=False, repr=False)
class SliceStack:
    """Slices of one acquisition, sheared, gapped and irregular ones included.

    They share one orientation more or less: blocks of parallel slices at angles of their own, as they are planned along
    a spine, are one stack. See `blocks` and `hulls`.

    Attributes:
        pixels: (K, rows, columns) float32, C-contiguous, in the units of the file (after rescale
            slope/intercept).
        ijk_to_ras: (K, 4, 4) float64, mm, RAS: pose of each slice. Column 0: step along column index i;
            column 1: step along row index j; column 2: unit normal towards increasing k; column 3: centre of
            pixel (0, 0).
        slice_thickness: (K,) mm; the slice profile's width, which is not the distance between slices.
        frame_of_reference: DICOM Frame of Reference UID, None when the file format has none.
        name: short label for people, unique within one `read_stacks` call; never a patient's name.
        source: what a derived DICOM series has to repeat of this one; of other files no more than the contrast, where a JSON
            file beside says it.
        notes: remarks of the reader, such as "gap of 5.0 mm after slice 12".

    Raises:
        GaussianMRIError: pixels that are not finite, shapes that do not fit, a geometry no image can have.
    """

    pixels: NDArray[np.float32]
    ijk_to_ras: NDArray[np.float64]
    slice_thickness: NDArray[np.float64]
    _: KW_ONLY
    frame_of_reference: str | None = None
    name: str = "stack"
    source: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        with np.errstate(over="ignore"):  # what is too large for float32 is infinite there, and refused
            pixels = np.ascontiguousarray(self.pixels, dtype=np.float32)
        if pixels.ndim != 3 or 0 in pixels.shape:
            raise GaussianMRIError(
                f"{self.name}: pixels must be (slices, rows, columns), got {pixels.shape}."
            )
        bad = np.flatnonzero(~np.isfinite(pixels).reshape(len(pixels), -1).all(axis=1))
        if len(bad):
            raise GaussianMRIError(
                f"{self.name}: slice {bad[0]} (counted from 0; {len(bad)} of {len(pixels)} slices) has "
                "pixels that are NaN or infinite. Repair or leave out these slices."
            )
        poses = check_affine(self.ijk_to_ras, what=f"{self.name}'s ijk_to_ras")
        if poses.shape != (len(pixels), 4, 4):
            raise GaussianMRIError(
                f"{self.name}: {len(pixels)} slices need ({len(pixels)}, 4, 4) poses, got {poses.shape}."
            )
        poses[:, :3, 2] = normals_towards_increasing_k(poses, pixels.shape)
        thickness = numbers(self.slice_thickness, f"slice thickness of {self.name}")
        if thickness.shape not in ((), (1,), (len(pixels),)):
            raise GaussianMRIError(
                f"{self.name}: {len(pixels)} slices need one thickness, or one each, got {thickness.shape}."
            )
        thickness = np.array(np.broadcast_to(thickness, (len(pixels),)))
        check_spacing(thickness, f"slice thickness of {self.name}")
        for array in (poses, thickness):
            array.flags.writeable = False
        object.__setattr__(self, "pixels", pixels)
        object.__setattr__(self, "ijk_to_ras", poses)
        object.__setattr__(self, "slice_thickness", thickness)
        object.__setattr__(self, "notes", tuple(self.notes))

    @property
    def series_digest(self) -> str:
        """Stands for the DICOM series of the stack without giving its UID away; "" of one that has none."""
        uid = self.source.get("series_uid")
        return hashlib.sha256(uid.encode()).hexdigest()[:16] if uid else ""

    @classmethod
    def from_array(
        cls,
        pixels_kji: ArrayLike,
        ijk_to_ras: ArrayLike,
        *,
        thickness: float | ArrayLike | None = None,
        frame_of_reference: str | None = None,
        name: str = "array",
        source: dict[str, Any] | None = None,
        notes: Sequence[str] = (),
        copy: bool = True,
    ) -> SliceStack:
        """Stack from pixels [k, j, i] and their geometry.

        Args:
            pixels_kji: (K, rows, columns), any real type.
            ijk_to_ras: (4, 4) of a regular volume, whose column 2 is the step from one slice to the next
                (shear is legal), or (K, 4, 4), one pose per slice (only the direction of column 2 counts, for
                the sign of the normal).
            thickness: slice thickness in mm, one number or one per slice; the distance between slices when
                None.
            frame_of_reference, name, source, notes: as in the class.
            copy: False leaves the pixels where they are if they are float32 already; nobody may change them then.

        Raises:
            GaussianMRIError: see the class; also when `thickness` is None and there is no distance to take it
                from.
        """
        if np.ma.is_masked(pixels_kji):
            raise GaussianMRIError(f"{name}: some pixels are masked; give them a value, as by pixels.filled(0).")
        pixels = np.asarray(plain_array(pixels_kji))
        if pixels.ndim != 3 or 0 in pixels.shape:
            raise GaussianMRIError(f"{name}: pixels must be (slices, rows, columns), got {pixels.shape}.")
        if pixels.dtype.kind not in "biuf":
            raise GaussianMRIError(f"{name}: pixels must be real numbers, got {pixels.dtype}.")
        if copy:
            with np.errstate(over="ignore"):  # see below
                pixels = np.array(pixels, dtype=np.float32, order="C")
        matrix = check_affine(ijk_to_ras, what=f"{name}'s ijk_to_ras")
        if matrix.ndim == 2:
            gap = float(abs(slice_normal(matrix) @ matrix[:3, 2]))
            check_spacing(gap, f"spacing between slices of {name}")
            matrix = slice_poses(matrix, len(pixels))
            if thickness is None:
                thickness = gap
        if thickness is None:
            if len(pixels) < 2:
                raise GaussianMRIError(f"{name}: one slice has no spacing; give its thickness in mm.")
            thickness = usual_spacing(matrix, pixels.shape)
        return cls(
            pixels,
            matrix,
            numbers(thickness, f"slice thickness of {name}"),
            frame_of_reference=frame_of_reference,
            name=name,
            source=source or {},
            notes=tuple(notes),
        )

    def __repr__(self) -> str:
        k, rows, columns = self.shape
        i, j = self.pixel_spacing
        return (
            f"SliceStack({self.name!r}, {k} slices of {rows} x {columns}, pixels {i:.4g} x {j:.4g} mm, "
            f"spacing {self.spacing:.4g} mm, thickness {self.thickness:.4g} mm)"
        )

    # ---- properties

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, rows, columns)."""
        k, rows, columns = self.pixels.shape
        return k, rows, columns

    @property
    def pixel_spacing(self) -> tuple[float, float]:
        """(mm between columns, along i; mm between rows, along j) of the first slice."""
        spacing: tuple[float, float] = self.plane(0).spacing
        return spacing

    @property
    def thickness(self) -> float:
        """Median slice thickness, mm."""
        return float(np.median(self.slice_thickness))

    @property
    def normal(self) -> NDArray[np.float64]:
        """Mean unit normal (3,) towards increasing k, RAS."""
        mean: NDArray[np.float64] = self.ijk_to_ras[:, :3, 2].mean(axis=0)
        return unit_vector(mean, what="mean normal")

    @property
    def positions(self) -> NDArray[np.float64]:
        """(K,) mm: slice centres along the mean normal, measured from the RAS origin."""
        return centers(self.ijk_to_ras, self.shape) @ self.normal

    @property
    def spacing(self) -> float:
        """Median distance between neighbouring slices of a block along their normal, mm; one slice: its thickness."""
        if len(self.pixels) < 2:
            return self.thickness
        return usual_spacing(self.ijk_to_ras, self.shape)

    @property
    def is_sagittal(self) -> bool:
        """Whether the slices lie nearer to the sagittal plane than to any other."""
        return bool(abs(self.normal[0]) > 0.7)

    # ---- methods

    def distances(self, point: ArrayLike) -> NDArray[np.float64]:
        """(K,) mm from each slice to a point (3,), RAS, along the slice's own normal; positive towards increasing k."""
        away = np.asarray(point, dtype=np.float64) - self.ijk_to_ras[:, :3, 3]
        distances: NDArray[np.float64] = np.einsum("ka,ka->k", away, self.ijk_to_ras[:, :3, 2])
        return distances

    def plane(self, k: int) -> ImagePlane:
        """Slice `k` as a plane, with its thickness."""
        return ImagePlane(self.ijk_to_ras[k], self.shape[1:], thickness=float(self.slice_thickness[k]))

    def planes(self) -> list[ImagePlane]:
        """Every slice as a plane."""
        return [self.plane(k) for k in range(len(self.pixels))]

    def subset(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> SliceStack:
        """The stack of the slices `indices` (integers or a mask; at least one), in that order."""
        wanted = np.asarray(indices)
        if wanted.ndim != 1 or not (wanted.any() if wanted.dtype == bool else wanted.size):
            raise GaussianMRIError(f"{self.name}: a subset needs at least one slice.")
        chosen = np.arange(len(self.pixels))[wanted]
        source = dict(self.source)
        for key, value in source.items():
            if (
                isinstance(value, (list, tuple))
                and len(value) == len(self.pixels)
                and key.startswith("slice_")
            ):
                source[key] = [value[k] for k in chosen]
        return replace(
            self,
            pixels=self.pixels[chosen],
            ijk_to_ras=self.ijk_to_ras[chosen],
            slice_thickness=self.slice_thickness[chosen],
            source=source,
        )

    def window(self, rows: slice, columns: slice) -> SliceStack:
        """The stack of a rectangle of every slice's pixels: `rows` and `columns` with start and stop within the slice."""
        poses = self.ijk_to_ras.copy()
        poses[:, :3, 3] += columns.start * poses[:, :3, 0] + rows.start * poses[:, :3, 1]
        return replace(self, pixels=self.pixels[:, rows, columns], ijk_to_ras=poses)

    def grid(self, *, tolerance: float = GRID_TOLERANCE_MM) -> NDArray[np.float64] | None:
        """`ijk_to_ras` (4, 4) of the regular volume these slices make, or None. Column 2 is the step.

        Regular: all slices are translates of each other with one constant step, to within `tolerance` mm at
        every pixel. The step may be sheared (gantry tilt). One slice makes a volume with a step of its
        thickness.
        """
        poses, (count, rows, columns) = self.ijk_to_ras, self.shape
        matrix: NDArray[np.float64] = poses[0].copy()
        if count == 1:
            matrix[:3, 2] *= self.thickness
            return matrix
        matrix[:3, 2] = (poses[-1, :3, 3] - poses[0, :3, 3]) / (count - 1)
        expected = matrix[:3, 3] + np.arange(count)[:, None] * matrix[:3, 2]
        shift = np.linalg.norm(poses[:, :3, 3] - expected, axis=1)
        turn = np.linalg.norm(poses[:, :3, 0] - matrix[:3, 0], axis=1) * (columns - 1)
        turn += np.linalg.norm(poses[:, :3, 1] - matrix[:3, 1], axis=1) * (rows - 1)
        regular = np.max(shift + turn) <= tolerance and abs(matrix[:3, 2] @ poses[0, :3, 2]) > tolerance
        return matrix if regular else None

    def blocks(self) -> list[SliceStack]:
        """Runs of slices that are parallel, in order and on one line, in order; the stack itself if it is one run."""
        return self._parts(parallel_runs(self.ijk_to_ras, self.shape))

    def regions(self) -> list[SliceStack]:
        """Runs of slices without a wide gap, in order; the stack itself if there is none.

        A gap is wide where neighbouring slices' centres are further apart than 2.5 times the spacing: there nothing was
        scanned, and nothing is to be interpolated. One missing slice and the wedge between neighbouring blocks are none.
        """
        # Slices through one axis have their centres in one place: no distance to go by.
        usual = max(self.spacing, self.thickness)
        return self._parts(connected_runs(self.ijk_to_ras, self.shape, usual))

    def _parts(self, runs: list[range]) -> list[SliceStack]:
        return [self] if len(runs) == 1 else [self.subset(run) for run in runs]

    def hulls(self) -> list[NDArray[np.float64]]:
        """Where something was scanned: the hull, half-spaces (M, 4), of each of the stack's `regions`; their union."""
        return [region.hull() for region in self.regions()]

    def inside(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether RAS points (..., 3), mm, lie in one of the `hulls`; (...) bool."""
        covered: NDArray[np.bool_] = np.any([inside_hull(hull, points) for hull in self.hulls()], axis=0)
        return covered

    def hull(self) -> NDArray[np.float64]:
        """Half-spaces (M, 4) whose intersection is the convex hull of the slices, each with its thickness.

        It spans the gaps between blocks too; `hulls` says where something was scanned.

        A point x (RAS mm) is inside when `n . x + d <= 0` for every row (n, d), n a unit vector. In-plane the
        hull reaches the outer edges of the pixels.
        """
        from scipy.spatial import ConvexHull

        corners = np.stack([plane.corners() for plane in self.planes()])
        half = (self.slice_thickness[:, None] / 2 * self.ijk_to_ras[:, :3, 2])[:, None, :]
        points = np.concatenate([corners - half, corners + half]).reshape(-1, 3)
        equations = ConvexHull(points).equations
        # Qhull returns triangles; those of one face share their equation.
        _, first = np.unique(equations.round(7), axis=0, return_index=True)
        return np.ascontiguousarray(equations[np.sort(first)])


def as_stacks(stacks: Any) -> list[SliceStack]:
    """One stack or several as a list.

    Raises:
        GaussianMRIError: something among them is no stack.
    """
    return all_of(
        SliceStack,
        stacks,
        "These are no stacks of slices but {got}. read_stacks(path) reads files and folders, SliceStack.from_array "
        "makes a stack of an array.",
    )


def hulls_of(stacks: Sequence[SliceStack]) -> tuple[NDArray[np.float64], ...]:
    """The `hulls` of several stacks, one after the other: where any of them scanned something."""
    return tuple(hull for stack in stacks for hull in stack.hulls())


def slice_columns(stack: SliceStack, *, tolerance: float | None = None) -> SliceColumns | None:
    """The columns of a stack whose slices are parallel, in order and on one line; else None.

    Args:
        tolerance: largest distance of any pixel from its column, mm; default: 0.15 pixels.
    """
    return columns_of(stack.ijk_to_ras, stack.shape, tolerance)
