"""The straightened image along a curve, kept up to date in a slice view while the curve's points are moved."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import ImagePlane
from .curves import straight_field
from .preview import Preview, coarsening

if TYPE_CHECKING:
    from ..gaussians import GaussianField, StraightField


class CurvePreview(Preview):
    """A slice view that shows the straightened image along a markups curve; see `Preview`.

    The view stands in the curve's straight space, and the curve is not drawn in it: its points lie elsewhere. Mouse wheel
    and slider move the image aside, through the straightened volume; the curve stays.

    Args:
        field: GaussianField.
        curve_node: vtkMRMLMarkupsCurveNode.
        slice_node: vtkMRMLSliceNode to show it in.
        source: volume node whose display settings the image takes; None: automatic.
        width: mm that are shown on both sides of the curve together.
        spacing: mm between pixels; default: the field's own.
        slab, projection: mm around the image that are shown in it, and what of them: "mean", "max" or "min".
        across, fixed, turn: as of `Curve`.
        name, schedule, changed, settle: as of `Preview`.

    Raises:
        GaussianMRIError: the curve has fewer than two points, or makes no image; a view without a scene.
    """

    def __init__(
        self,
        field: GaussianField,
        curve_node: Any,
        slice_node: Any,
        source: Any = None,
        *,
        width: float = 60.0,
        spacing: float | None = None,
        slab: float = 0.0,
        projection: str = "mean",
        across: Any = None,
        fixed: bool = False,
        turn: float = 0.0,
        name: str = "Gaussian MRI straightened",
        schedule: Callable[[Callable[[], None]], object] | None = None,
        changed: Callable[[], object] | None = None,
        settle: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        self.straight: StraightField | None = None
        self.aside = 0.0  # mm from the curve
        self._how: dict[str, Any] = {"width": width, "spacing": spacing, "across": across, "fixed": fixed, "turn": turn}
        super().__init__(
            field, curve_node, slice_node, source, thickness=slab, projection=projection, name=name,
            schedule=schedule, changed=changed, settle=settle,
        )  # fmt: skip

    def change(self, *, slab: float, projection: str, **how: Any) -> None:
        """Show another width, spacing, slab, projection, direction or turn, named as at the beginning."""
        if (slab, projection, how) != (self._thickness, self._projection, {name: self._how[name] for name in how}):
            self._thickness, self._projection = slab, projection
            self._how.update(how)
            self._plane_changed()

    @property
    def folding(self) -> str:
        """A sentence where the image is folded, else empty; see `Curve.folding`."""
        straight = self.straight
        return (
            ""
            if straight is None
            else straight.curve.folding(straight.width, aside=self._thickness + 2 * abs(self.aside))
        )

    def _image_plane(self) -> ImagePlane:
        straight = straight_field(self._renderer, self._plane, **self._how)
        coarser = max(coarsening(straight.plane), self._coarser)
        if coarser > 1:
            straight = straight.spaced(straight.plane.spacing[0] * coarser)
        self.straight = straight
        # As deep as it is wide: so far wheel and slider reach.
        normal = straight.plane.normal
        self._corners = straight.plane.center + np.array([[-0.5], [0.5]]) * straight.width * normal
        plane = straight.plane.offset(self.aside)
        return ImagePlane(plane.ijk_to_ras, plane.shape, thickness=self._thickness)

    def _render(self, plane: ImagePlane) -> NDArray[np.float32]:
        assert self.straight is not None
        return self.straight.render(plane, projection=self._projection if self._thickness else "mean")

    def _frame_now(self) -> NDArray[np.float64]:
        return np.eye(4)

    def _follow(self, matrix: NDArray[np.float64]) -> None:
        assert self.straight is not None
        moved = float((matrix[:3, 3] - self._facing[:3, 3]) @ self.straight.plane.normal)
        half = self.straight.width / 2
        self._facing, self.aside = matrix, float(np.clip(self.aside + moved, -half, half))
