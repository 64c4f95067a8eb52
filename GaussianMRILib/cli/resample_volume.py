"""`gaussianmri resample`: volumes, of everything that was scanned or along a curve."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from .app import advance, progress_bar

if TYPE_CHECKING:
    from ..gaussians import GaussianField
    from ..stacks import SliceStack
    from ..volumes import Grid

_logger = logging.getLogger("GaussianMRI")


def write_isotropic(
    field: GaussianField,
    spacing: float | None,
    box: list[tuple[float, ...]] | None,
    axes: Literal["first", "ras"],
    output: Path | None,
    dicom: Path | None,
    sources: Sequence[SliceStack],
) -> str:
    """Render a volume slab by slab under a progress bar, and write it; a line that says so.

    Args:
        field: to be rendered.
        spacing: mm, or None for the field's own.
        box, axes: see `GaussianField.volume`.
        output: volume file, or None.
        dicom: folder of a series, or None.
        sources: whose patient and study the series shares.

    Raises:
        GaussianMRIError: no volume of that spacing, or an output cannot be written.
    """
    grid, slabs = field.slabs(spacing=spacing, box=box, axes=axes)
    return write_slabs(grid, slabs, output, dicom, sources)


def write_slabs(
    grid: Grid,
    slabs: Iterator[tuple[int, NDArray[np.float32]]],
    output: Path | None,
    dicom: Path | None = None,
    sources: Sequence[SliceStack] = (),
) -> str:
    """Write a volume while its slabs are rendered, under a progress bar; a line that says so. See `write_isotropic`."""
    from ..writers import write_dicom_series
    from ..writers.slabs import fill_of, spooled, write_grid

    _logger.info("A volume of %d x %d x %d voxels ...", *grid.shape)
    with progress_bar("Rendering") as bar:

        def shown() -> Iterator[tuple[int, NDArray[np.float32]]]:
            for first, slab in slabs:
                yield first, slab
                advance(bar, (first + len(slab)) / grid.shape[0])

        with spooled(shown(), grid.shape) as voxels:
            bar.set_description_str("Writing")
            fill = fill_of(voxels)
            if fill is None:
                raise GaussianMRIError("No voxel lies in what was scanned; use a smaller spacing.")
            if output is not None:
                write_grid(output, voxels, grid.ijk_to_ras, fill)
            if dicom is not None:
                write_dicom_series(dicom, voxels, grid.planes(), source=sources, description="GaussianMRI isotropic")
    count, rows, columns = grid.shape
    written = ", ".join(str(path) for path in (dicom, output) if path is not None)
    side = np.linalg.norm(grid.ijk_to_ras[:3, 0])
    return f"{count} x {rows} x {columns} voxels of {side:.3g} mm written to {written}"
