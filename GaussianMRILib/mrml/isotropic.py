"""Isotropic volumes of a field as scalar volume nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from .fields import volumes_of
from .fitting import box_from_roi
from .jobs import Job
from .maps import as_field
from .resampling import describe_result, empty_value
from .scene import PREFIX, all_or_nothing, is_node, scene_of
from .volumes import volume_from_images

if TYPE_CHECKING:
    from ..volumes import Grid

#: Voxels of a node's volume: 2 GB, of which Slicer makes copies.
MOST_VOXELS = 1 << 29

Voxels = NDArray[np.float32]


class IsotropicJob(Job):
    """The voxels of an isotropic volume, computed in a thread of its own; `node` puts them into the scene.

    Args:
        source: a field's model node or a GaussianField.
        spacing: mm between voxels; default: the field's finest pitch.
        roi: vtkMRMLMarkupsROINode whose upright box bounds the volume, or None: everything that was scanned.
        axes: "first", along the first slice, or "ras", along the patient; see `GaussianField.volume`.
        field: the field itself, where the caller has it, so that it need not be read from the node.

    Raises:
        GaussianMRIError: no field, a spacing that makes no volume or one of more than 2 GB, a ROI without anything
            scanned in it.
    """

    def __init__(
        self, source: Any, *, spacing: float | None = None, roi: Any = None, axes: Any = "first", field: Any = None
    ) -> None:
        super().__init__(IsotropicJob._render, "isotropic volume")
        self._source = source
        self._field = as_field(source) if field is None else field
        box = None if roi is None else box_from_roi(roi)
        self._grid, self._slabs = self._field.slabs(spacing=spacing, box=box, axes=axes)
        count = int(np.prod(self._grid.shape, dtype=np.int64))
        if count > MOST_VOXELS:
            raise GaussianMRIError(
                f"{' x '.join(map(str, self._grid.shape))} voxels are {4e-9 * count:.1f} GB, too much for the scene; use a "
                "larger spacing or a region."
            )

    @property
    def grid(self) -> Grid:
        """Where the voxels are."""
        return self._grid

    def node(self, node: Any = None, scene: Any = None) -> Any:
        """The volume, once `poll` says that the work has ended, as a scalar volume node that is shown as the source is.

        Args:
            node: a scalar volume node to fill again; a new one by default.
            scene: default: the source's, else Slicer's.

        Raises:
            GaussianMRIError: the work was cancelled, or nothing of the scan lies in the volume.
        """
        voxels: Voxels = self.result()
        if not np.isfinite(voxels).any():
            raise GaussianMRIError("No voxel lies in what was scanned; use a smaller spacing or a larger region.")
        volumes = volumes_of(self._source) if is_node(self._source) else []
        scene = scene_of(node, self._source, *volumes, scene=scene)
        if node is not None and any(node is volume for volume in volumes):
            raise GaussianMRIError(f"'{node.GetName()}' is what was scanned; choose another output volume.")
        name = f"{volumes[0].GetName() if volumes else 'field'} isotropic"
        with all_or_nothing(scene, undo=True, changed=node) as added:
            filled = volume_from_images(
                voxels,
                self._grid.planes(),
                scene=scene,
                node=node,
                name=name,
                background=empty_value(self._field),
            )
            if node is None:
                added.append(filled)
            describe_result(filled, self._source, None, volumes, "gaussians", self._field)
            filled.SetAttribute(PREFIX + "Kind", "isotropic")
        return filled

    def _render(self) -> Voxels | None:
        voxels = np.empty(self._grid.shape, np.float32)
        for first, slab in self._slabs:
            voxels[first : first + len(slab)] = slab
            if self.cancelled:
                return None
            self.report((first + len(slab)) / len(voxels), "rendering the volume")
        return voxels


def isotropic_volume(
    source: Any,
    *,
    spacing: float | None = None,
    roi: Any = None,
    axes: str = "first",
    node: Any = None,
    scene: Any = None,
    progress: Callable[[float], object] | None = None,
) -> Any:
    """The scan as an isotropic scalar volume node, for the Segment Editor and everything else; waits for it.

    Example:
        >>> volume = mrml.isotropic_volume(fieldNode, spacing=0.5)           # doctest: +SKIP

    Args:
        source, spacing, roi, axes: see `IsotropicJob`.
        node, scene: see `IsotropicJob.node`.
        progress: called with the fraction that is done; when it returns False the work ends.

    Raises:
        GaussianMRIError: see `IsotropicJob`; cancelled.
    """
    job = IsotropicJob(source, spacing=spacing, roi=roi, axes=axes)
    job.run(progress)
    return job.node(node, scene)
