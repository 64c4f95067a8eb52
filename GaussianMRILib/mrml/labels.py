"""Segmentations that go along with an image: onto planes and into volumes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import slicer
from numpy.typing import NDArray
from vtkmodules.util.numpy_support import numpy_to_vtk

from ..errors import GaussianMRIError
from ..geometry import ImagePlane
from .jobs import Job
from .planes import Spacing, plane_of
from .scene import PREFIX, all_or_nothing, as_matrix, described, in_scene, is_node, place_beside, scene_of
from .segments import LabelLayer, label_layers
from .volumes import check_scalar, planes_of_volume

#: Reference role from a resampled segmentation to the one that it was made of.
SEGMENTATION_ROLE = PREFIX + "Segmentation"


class _Grid(NamedTuple):
    planes: list[ImagePlane]
    affine: NDArray[np.float64]


class LabelsJob(Job):
    """Segments at the voxels of another volume or plane, computed in a thread of its own; `node` puts them into the scene.

    Args:
        segmentation_node: vtkMRMLSegmentationNode, its transforms included.
        onto: a scalar volume node, such as a resampled or an isotropic one, whose voxels get labels; or a markups plane,
            slice view or ImagePlane, whose image does, on its middle.
        boundaries: "smooth" or "nearest", see `LabelResampler`.
        spacing: mm between pixels of a plane; default 0.5.

    Raises:
        GaussianMRIError: no segmentation, one without segments, nothing to resample onto, transforms that are not linear.
    """

    def __init__(
        self, segmentation_node: Any, onto: Any, *, boundaries: str = "smooth", spacing: Spacing = None
    ) -> None:
        super().__init__(LabelsJob._resample, "resampling of the labels")
        self._layers = label_layers(segmentation_node)
        self._segments = segments_without_images(segmentation_node)
        self._segmentation, self._onto, self._boundaries = segmentation_node, onto, boundaries
        self._grid = _grid_of(onto, spacing)

    def node(self, scene: Any = None) -> Any:
        """The labels, once `poll` says that the work has ended, as a new segmentation node.

        It has every segment of the source as it was when the work began, with its name, colour and terminology; one that
        does not reach the voxels is empty. Its geometry is the volume's, or the plane's.

        Args:
            scene: default: the segmentation's, else Slicer's.

        Raises:
            GaussianMRIError: the work was cancelled, or the segmentation was removed meanwhile.
        """
        images: list[NDArray[Any]] = self.result()
        source = self._segmentation
        if not in_scene(source):
            raise GaussianMRIError("The segmentation was removed while it was resampled; nothing is kept.")
        scene = scene_of(source, scene=scene)
        name = self._onto.GetName() if is_node(self._onto) else "plane"
        with all_or_nothing(scene, undo=True) as added:
            label = scene.GenerateUniqueName(f"{source.GetName()} on {name}")
            made = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", label)
            added.append(made)
            fill_segments(made, self._segments, self._layers, [oriented(image, self._grid.affine) for image in images])
            made.CreateDefaultDisplayNodes()
            made.SetNodeReferenceID(SEGMENTATION_ROLE, source.GetID())
            made.SetAttribute(PREFIX + "Boundaries", self._boundaries)
            volume = self._onto
            if is_node(volume, "vtkMRMLScalarVolumeNode") and in_scene(volume):
                made.SetReferenceImageGeometryParameterFromVolumeNode(volume)
                place_beside(made, volume)
            else:
                place_beside(made, source)
        return made

    def _resample(self) -> list[NDArray[Any]] | None:
        from ..labels import LabelResampler

        planes, results = self._grid.planes, []
        for number, layer in enumerate(self._layers):

            def tell(share: float, number: int = number) -> None:
                if self.cancelled:
                    raise InterruptedError
                self.report((number + share) / len(self._layers), "resampling the labels")

            made = LabelResampler(
                layer.labels, layer.ijk_to_ras, boundaries=self._boundaries, progress=lambda part: tell(part / 2)
            )
            image = np.empty((len(planes), *planes[0].shape), layer.labels.dtype)
            for k, plane in enumerate(planes):
                image[k] = made.render(plane)
                tell(0.5 + (k + 1) / len(planes) / 2)
            results.append(image)
        return results


def resample_labels(
    segmentation_node: Any,
    onto: Any,
    *,
    boundaries: str = "smooth",
    spacing: Spacing = None,
    scene: Any = None,
    progress: Callable[[float], object] | None = None,
) -> Any:
    """A segmentation at the voxels of a volume, or on a plane, as a new segmentation node; waits for it.

    Example:
        >>> labels = mrml.resample_labels(segmentationNode, obliqueVolume)   # doctest: +SKIP

    Args:
        segmentation_node, onto, boundaries, spacing: see `LabelsJob`.
        scene: default: the segmentation's, else Slicer's.
        progress: called with the fraction that is done; when it returns False the work ends.

    Raises:
        GaussianMRIError: see `LabelsJob`; cancelled.
    """
    job = LabelsJob(segmentation_node, onto, boundaries=boundaries, spacing=spacing)
    job.run(progress)
    return job.node(scene)


def _grid_of(onto: Any, spacing: Spacing) -> _Grid:
    from ..writers.volume import volume_affine

    if is_node(onto, "vtkMRMLVolumeNode"):
        check_scalar(onto)
        planes = planes_of_volume(onto)
        try:
            affine = volume_affine(planes)
        except GaussianMRIError as error:
            raise GaussianMRIError(
                f"The slices of {described(onto)} do not lie straight over each other, as with a tilted gantry, and labels "
                "cannot lie on such voxels. Make an isotropic volume of it, or resample it on a plane, and choose that."
            ) from error
        if len(planes) == 1:  # as deep as the volume's voxel is
            affine[:3, 2] *= onto.GetSpacing()[2] / np.linalg.norm(affine[:3, 2])
        return _Grid(planes, affine)
    placed = any(is_node(onto, name) for name in ("vtkMRMLMarkupsPlaneNode", "vtkMRMLSliceNode"))
    if not (placed or isinstance(onto, ImagePlane)):
        raise GaussianMRIError(f"Labels go onto a volume, a plane or a slice view, got {described(onto)}.")
    planes = [plane_of(onto, spacing)]
    return _Grid(planes, volume_affine(planes))


def segments_without_images(segmentation_node: Any) -> dict[str, Any]:
    """Names, colours and terminologies of the segments as they now are: a vtkSegment for each ID, in order."""
    given, found = segmentation_node.GetSegmentation(), {}
    for number in range(given.GetNumberOfSegments()):
        segment_id = given.GetNthSegmentID(number)
        found[segment_id] = slicer.vtkSegment()
        found[segment_id].DeepCopyMetadata(given.GetSegment(segment_id))
    return found


def fill_segments(made: Any, segments: dict[str, Any], layers: Sequence[LabelLayer], images: Sequence[Any]) -> None:
    """`segments_without_images`, with new images of their layers (`oriented`), into an empty node."""
    labelmap = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    target = made.GetSegmentation()
    target.SetSourceRepresentationName(labelmap)
    places = {}
    for layer, image in zip(layers, images, strict=True):
        places.update({segment: (image, value) for segment, value in layer.values.items()})
    for segment_id, segment in segments.items():
        if segment_id in places:
            image, value = places[segment_id]
            segment.SetLabelValue(value)
            segment.AddRepresentation(labelmap, image)
        target.AddSegment(segment, segment_id)


def oriented(labels: NDArray[Any], affine: NDArray[np.float64]) -> Any:
    """vtkOrientedImageData of labels (K, rows, columns)."""
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(*labels.shape[::-1])
    scalars = numpy_to_vtk(np.ascontiguousarray(labels).ravel(), deep=1)
    image.GetPointData().SetScalars(scalars)
    image.SetImageToWorldMatrix(as_matrix(affine))
    return image
