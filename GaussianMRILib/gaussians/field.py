"""A fitted field of 3D Gaussians: render any plane or volume of it, say how far it can be trusted, save it, load it."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ..geometry import ImagePlane, as_planes, check_projection, inside_hull, row_spans, slab_image
from ..geometry.profile import MOST_SAMPLES
from ..volumes import Grid
from . import files
from .field_data import FieldData
from .lattice import EXPLICIT_CUT, GaussianLattice
from .planes import PlaneBatch
from .views import add_views
from .volume import finest_spacing, rendered_slabs, volume_grid

#: mm beyond the slab that still count as inside: planes laid on its faces are rounded.
TOLERANCE = 1e-4
FACTOR_ENTRIES = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


@dataclass(frozen=True, eq=False)
class GaussianField(FieldData):
    """3D Gaussians whose normalised weighted mean colour is the image.

    Source: eqs. 1-2 of "Rendering Novel Views of MRI using 3D Gaussian Splatting".

    At a point x, w_i = a_i exp(-q_i / 2) with q_i = |M_i (x - m_i)|^2 where q_i < `cut`, and the normalised intensity is
    sum(w_i c_i) / (sum(w_i) + `background`). M_i is upper triangular with a positive diagonal, in 1/mm, so that the
    precision P_i = M_i^T M_i is always positive definite. Gaussians of a lattice (see `GaussianLattice`) have one shape and
    stand in the same sums.

    What it consists of is said in `FieldData`.
    """

    def __repr__(self) -> str:
        return f"GaussianField({len(self)} Gaussians, {len(self.slice_poses)} slices, preset={self.report.get('preset')!r})"

    @property
    def covariances(self) -> NDArray[np.float64]:
        """(N, 3, 3) mm^2."""
        m = np.zeros((self.parameters.shape[1], 3, 3))
        for row, (a, b) in zip(self._rows(3, 9), FACTOR_ENTRIES, strict=True):
            m[:, a, b] = row
        inverse = np.linalg.inv(m)
        return np.asarray(inverse @ inverse.transpose(0, 2, 1))

    def explicit(self) -> GaussianField:
        """The same field with all its Gaussians as plain ones, 11 numbers each, for other programs.

        They are cut at an ellipsoid where a lattice's are cut at a box: images differ by less than 1 % of the contrast
        there. A lattice of 30 million Gaussians takes 1.3 GB like that. Views of single series are left out.
        """
        if self.lattice is None:
            return self
        parameters = torch.cat([self.parameters, self.lattice.explicit()], 1)
        return replace(self, parameters=parameters, cut=EXPLICIT_CUT, lattice=None, views=())

    # ---- images --------------------------------------------------------------------------------------------------

    def render(self, plane: ImagePlane, *, projection: str = "mean") -> NDArray[np.float32]:
        """The image on a plane.

        Args:
            projection: what is shown of the plane's thickness. "mean": what a slice of this thickness would show. "max",
                "min": the brightest, the darkest value in the slab, from planes half the finest pitch apart.

        Returns:
            (rows, columns) float32 in the units of the input; NaN outside what was scanned.

        Raises:
            GaussianMRIError: an unknown projection, or "max" or "min" of a plane without thickness.
        """
        return self.render_many([plane], projection=projection)[0]

    def render_many(
        self, planes: Sequence[ImagePlane], *, projection: str = "mean", views: bool = True
    ) -> list[NDArray[np.float32]]:
        """`render` for several planes, in one kernel call unless they are slabs.

        Args:
            views: False shows the same body from every direction, as voxels of a volume must.
        """
        planes = as_planes(planes)
        check_projection(projection, planes=planes)
        thin = functools.partial(self._thin_images, views=views)
        # A slice profile has a limited number of samples, between which a thicker slab would have gaps.
        most = 0.0 if projection != "mean" else self._thickest_slice
        if any(plane.thickness > most for plane in planes):
            step = finest_spacing(self) / 2
            return [
                slab_image(thin, plane, projection=projection, step=step) if plane.thickness > most else thin([plane])[0]
                for plane in planes
            ]
        return thin(planes)

    @functools.cached_property
    def _thickest_slice(self) -> float:
        """Thickness, mm, up to which the samples of a slice profile are near enough to each other."""
        if self.lattice is not None:
            return MOST_SAMPLES / 2 * float(self.lattice.pitch.max())
        apart = [float(stack.get("spacing_mm", 0.0)) for stack in self.report.get("stacks", [])]
        return 1.5 * max(apart, default=np.inf)

    def _thin_images(self, planes: Sequence[ImagePlane], views: bool) -> list[NDArray[np.float32]]:
        """Images of planes that are thin or as thick as a slice, in one kernel call."""
        batch = PlaneBatch.from_planes(planes, device=self.parameters.device, step=self._sample_step)
        image, _ = self._evaluate(batch)
        if views and self.views:
            with torch.no_grad():
                image = add_views(self.views, planes, image, self.background)
        results = np.split(self._intensities(image), np.cumsum(batch.sizes)[:-1])
        for n, plane in enumerate(planes):
            results[n] = results[n].reshape(plane.shape)
            np.putmask(results[n], ~self.inside_plane(plane), np.nan)
        return results[: len(planes)]

    def render_matrices(
        self, ijk_to_ras: NDArray[np.float64], shape: tuple[int, int], *, thickness: float = 0.0
    ) -> NDArray[np.float32]:
        """`render_many`, without views, for planes of one shape, as many as the lines of an image.

        Args:
            ijk_to_ras: (P, 4, 4) float64, mm, as of an `ImagePlane`; nothing is checked.
            shape: rows and columns of each.
            thickness: mm.

        Returns:
            (P, rows, columns) float32.
        """
        count, (rows, columns) = len(ijk_to_ras), shape
        batch = PlaneBatch.from_matrices(
            ijk_to_ras, np.tile(np.array(shape, np.int32), (count, 1)), np.full(count, thickness, np.float32),
            device=self.parameters.device, step=self._sample_step,
        )  # fmt: skip
        images = self._intensities(self._evaluate(batch)[0]).reshape(count, rows, columns)
        images[~self._covered(ijk_to_ras, shape)] = np.nan
        return images

    def volume(
        self,
        *,
        spacing: float | None = None,
        box: ArrayLike | None = None,
        axes: Literal["first", "ras"] = "first",
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """An isotropic volume of what was scanned, or of a box in it.

        Args:
            spacing: mm between voxels; default: the lattice's finest pitch, or the pixels of a field without a lattice.
            box: ((R0, R1), (A0, A1), (S0, S1)) RAS mm; the volume has what was scanned in it. None: everything.
            axes: "first": rows and columns along those of the first slice, and with its pixels where `spacing` is theirs.
                "ras": along the patient, columns to the left, rows to the back, slices upwards.

        Returns:
            Voxels (Z, rows, columns) float32 in the units of the input, NaN outside what was scanned, and their
            right-handed ijk_to_ras (4, 4).

        Raises:
            GaussianMRIError: a spacing that makes no volume or too large a one, a box without anything scanned.
        """
        grid = volume_grid(self, spacing, box, axes)
        voxels = np.empty(grid.shape, np.float32)
        for first, slab in rendered_slabs(functools.partial(self.render_many, views=False), grid):
            voxels[first : first + len(slab)] = slab
        return voxels, grid.ijk_to_ras

    def slabs(
        self,
        *,
        spacing: float | None = None,
        box: ArrayLike | None = None,
        axes: Literal["first", "ras"] = "first",
    ) -> tuple[Grid, Iterator[tuple[int, NDArray[np.float32]]]]:
        """`volume` in parts, so that memory stays bounded: its grid, and an iterator of its slabs.

        A slab is the index of its first slice and voxels (n, rows, columns), from the first slice to the last.
        """
        grid = volume_grid(self, spacing, box, axes)
        return grid, rendered_slabs(functools.partial(self.render_many, views=False), grid)

    def support(self, plane: ImagePlane) -> NDArray[np.float32]:
        """Sum of Gaussian weights, (rows, columns) float32, relative to the field's median: 1 as usual, 0 nothing there."""
        planes = as_planes([plane])
        _, density = self._evaluate(PlaneBatch.from_planes(planes, device=self.parameters.device, step=self._sample_step))
        support = np.maximum(density.cpu().numpy(), 0).reshape(plane.shape)
        return np.asarray(support / np.float32(self.report.get("support_median", 1.0)))

    def distance_to_slices(self, plane: ImagePlane) -> NDArray[np.float32]:
        """Distance from each pixel to the nearest acquired slice, (rows, columns) float32, mm.

        A slice is its rectangle of pixels, without thickness: 0 on an acquired slice, at most half a spacing between two.
        """
        (plane,) = as_planes([plane])
        rows, columns = np.arange(plane.shape[0])[:, None], np.arange(plane.shape[1])[None, :]
        nearest = np.full(plane.shape, np.inf, np.float32)
        for pose, shape in zip(self.slice_poses, self.slice_shapes, strict=True):
            spacing = np.linalg.norm(pose[:3, :2], axis=0)
            axes = np.stack([pose[:3, 0] / spacing[0], pose[:3, 1] / spacing[1], pose[:3, 2]])
            # Along each axis of the slice, coordinates are affine in the plane's row and column.
            at_origin = axes @ (plane.origin - pose[:3, 3])
            per_column, per_row = axes @ plane.ijk_to_ras[:3, 0], axes @ plane.ijk_to_ras[:3, 1]
            across, down, away = (
                (at_origin[n] + per_row[n] * rows).astype(np.float32)
                + (per_column[n] * columns).astype(np.float32)
                for n in range(3)
            )
            squared = away * away
            for along, pixel, count in ((across, spacing[0], shape[1]), (down, spacing[1], shape[0])):
                middle, half = np.float32((count - 1) / 2 * pixel), np.float32(count / 2 * pixel)
                outside = np.maximum(np.abs(along - middle) - half, 0)
                squared += outside * outside
            np.minimum(nearest, squared, out=nearest)
        return np.sqrt(nearest)

    def inside(self, points: ArrayLike) -> NDArray[np.bool_]:
        """Whether points (..., 3), RAS mm, lie in the slab that any of the stacks scanned."""
        x = np.asarray(points, np.float64)
        covered = np.zeros(x.shape[:-1], bool)
        for hull in self.hulls:
            covered |= inside_hull(hull, x, tolerance=TOLERANCE)
        return covered

    def inside_plane(self, plane: ImagePlane) -> NDArray[np.bool_]:
        """`inside` for a plane's pixels, (rows, columns), and faster: each row meets a convex hull in one interval."""
        (plane,) = as_planes([plane])
        return self._covered(plane.ijk_to_ras, plane.shape)

    def _covered(self, ijk_to_ras: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
        """(..., rows, columns) of planes (..., 4, 4) of one shape."""
        columns = np.arange(shape[1], dtype=np.int32)
        covered = np.zeros((*ijk_to_ras.shape[:-2], *shape), bool)
        for hull in self.hulls:
            first, end = row_spans(hull, ijk_to_ras, shape, tolerance=TOLERANCE)
            covered |= (columns >= first[..., None]) & (columns < end[..., None])
        return covered

    @property
    def _sample_step(self) -> float | None:
        """mm between samples across a slice, at most; None: three samples."""
        return None if self.lattice is None else float(self.lattice.pitch.max()) / 2

    def _intensities(self, image: torch.Tensor) -> NDArray[np.float32]:
        """A normalised image (total,) in the units of the input."""
        # NumPy: on an image this small torch's threads cost more than they save.
        values: NDArray[np.float32] = image.cpu().numpy()
        values *= np.float32(self.scale)
        values += np.float32(self.offset)
        return values

    def _evaluate(self, batch: PlaneBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised images and sums of weights without the background, (total,) each."""
        with torch.no_grad():
            if self.lattice is None:
                image, _, density = batch.render(self.parameters, background=self.background, cut=self.cut)
                return image, batch.averaged(density) - self.background
            if self.parameters.shape[1]:
                return self._mixed(batch, self.lattice)
            return self.lattice.render(batch, background=self.background)

    def _mixed(self, batch: PlaneBatch, lattice: GaussianLattice) -> tuple[torch.Tensor, torch.Tensor]:
        """Image and sum of weights (total,) of plain Gaussians and a lattice, with one normalisation for both."""
        image, support = None, None
        for share, thin in batch.samples():
            plain, _, density = thin.render(self.parameters, background=self.background, cut=self.cut)
            ordered, weight = lattice.render(thin, background=self.background)
            top = plain * density[0] + ordered * (weight + self.background)
            sample, weight = top / (density[0] + weight), density[0] + weight - self.background
            image = share * sample if image is None else image + share * sample
            support = share * weight if support is None else support + share * weight
        assert image is not None and support is not None
        return image, support

    def to(self, device: torch.device | str) -> GaussianField:
        """The same field on another device."""
        lattice = None if self.lattice is None else self.lattice.to(device)
        views = tuple(view.to(device) for view in self.views)
        return replace(self, parameters=self.parameters.to(device), lattice=lattice, views=views)

    # ---- files ---------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one file: a NumPy `.npz` archive that any program with NumPy reads (the `header` array is JSON text).

        A lattice is kept as it is rounded, see `GaussianLattice.rounded`.

        Raises:
            GaussianMRIError: the file cannot be written, or the lattice's colours were not rounded.
        """
        files.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: torch.device | str = "cpu") -> GaussianField:
        """Read what `save` wrote.

        Raises:
            GaussianMRIError: no such file, not a field, truncated, or written by a newer version.
        """
        return files.load(cls, path, device)
