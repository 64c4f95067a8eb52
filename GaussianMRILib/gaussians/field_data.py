"""What a field consists of: the numbers that are computed, written and read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from .lattice import GaussianLattice, check_one_device
from .planes import BACKGROUND, CUT
from .views import SeriesView


@dataclass(frozen=True, eq=False)
class FieldData:
    """The numbers of a `GaussianField`, which has their model.

    Attributes:
        parameters: (11, N) float32 of the plain Gaussians: mean (3, RAS mm), M00 M01 M02 M11 M12 M22, colour c,
            amplitude a.
        offset, scale: image intensity = offset + scale * normalised intensity, in the units of the input.
        hulls: one (M, 4) array a stack: half-spaces n . x + d <= 0 (RAS mm) around what was scanned.
        slice_poses: (S, 4, 4) ijk_to_ras of every fitted slice, for the distance map.
        slice_shapes: (S, 2) rows and columns of them.
        frame_of_reference: DICOM Frame of Reference UID of the scan, or None.
        report: how the field came about and how good it is: preset, seed, held-out error, times; JSON types only.
        background, cut: of the weights.
        lattice: Gaussians of one shape on a lattice, or None.
        views: of several series, each as it was fitted alone: they count on planes that lie nearly as its slices do.
    """

    parameters: torch.Tensor
    offset: float
    scale: float
    hulls: tuple[NDArray[np.float64], ...]
    slice_poses: NDArray[np.float64]
    slice_shapes: NDArray[np.int32]
    frame_of_reference: str | None = None
    report: dict[str, Any] = field(default_factory=dict)
    background: float = BACKGROUND
    cut: float = CUT
    lattice: GaussianLattice | None = None
    views: tuple[SeriesView, ...] = ()

    def __post_init__(self) -> None:
        if self.parameters.ndim != 2 or self.parameters.shape[0] != 11:
            raise GaussianMRIError(
                f"A field's parameters must be (11, N), got {tuple(self.parameters.shape)}."
            )
        lattices = [own for own in (self.lattice, *(view.lattice for view in self.views)) if own is not None]
        check_one_device("A field", self.parameters, *(own.nodes for own in lattices))

    def __len__(self) -> int:
        return int(self.parameters.shape[1]) + (len(self.lattice) if self.lattice is not None else 0)

    @property
    def means(self) -> NDArray[np.float32]:
        """(N, 3) RAS mm."""
        return np.ascontiguousarray(self._rows(0, 3).T)

    @property
    def factors(self) -> NDArray[np.float32]:
        """(N, 6) M00 M01 M02 M11 M12 M22 of the precision factor, 1/mm."""
        return np.ascontiguousarray(self._rows(3, 9).T)

    @property
    def colours(self) -> NDArray[np.float32]:
        """(N,) normalised intensities."""
        return self._rows(9, 10)[0]

    @property
    def opacities(self) -> NDArray[np.float32]:
        """(N,) amplitudes a."""
        return self._rows(10, 11)[0]

    def _rows(self, first: int, last: int) -> NDArray[np.float32]:
        return np.asarray(self.parameters[first:last].detach().cpu().numpy())
