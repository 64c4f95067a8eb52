"""The canal at every disc of a segmentation, as a table in the scene."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..grading.canal import CUTOFFS_TEXT
from ..grading.label_schemes import scheme_of
from ..grading.labels import DISCLAIMER, LEVELS
from ..labels import LabelFile
from .dicom import stacks_of
from .jobs import Job
from .scene import as_list, in_scene
from .segments import LabelLayer, label_layers
from .tables import segmentation_table

if TYPE_CHECKING:
    from ..grading.canal_study import StudyMeasures

#: What Slicer calls the segments of a label map without names: by their values.
_NUMBERED = re.compile(r"(?:Segment|Label)[ _](\d+)", re.IGNORECASE)
_DESCRIPTIONS = (
    "Disc.",
    f"Area of the canal on the disc's plane. {CUTOFFS_TEXT}",
    "How far the coarseness of the labels lets the area be off.",
    "From front to back through the middle of the section.",
    f"100 or 75, where the area is smaller. {CUTOFFS_TEXT}",
    "Why there is no number, or what has to stand beside it.",
)


class CanalJob(Job):
    """Measures of the canal in a thread of its own.

    Args:
        segmentation_nodes: vtkMRMLSegmentationNode of TotalSpineSeg, both of SPINEPS, or one with segments named as theirs.
        volume_nodes: that were segmented; a canal cut by their edge is not measured.

    Raises:
        GaussianMRIError: no segmentation, one without segments, transforms that are not linear, unusable volumes.

    Example:
        >>> table = mrml.measure_canal(segmentationNode, [sagittalNode])                          # doctest: +SKIP
    """

    def __init__(self, segmentation_nodes: Any, volume_nodes: Any = ()) -> None:
        super().__init__(CanalJob._measure, "measuring of the canal")
        self._nodes, self._volumes = as_list(segmentation_nodes), as_list(volume_nodes)
        if not self._nodes:
            raise GaussianMRIError("There is no segmentation; choose one of TotalSpineSeg or SPINEPS.")
        self._maps = {name: labels for node in self._nodes for name, labels in spine_maps(node).items()}
        self._stacks = stacks_of(self._volumes) if self._volumes else []

    def _measure(self) -> StudyMeasures:
        from ..grading.canal_study import measure_study

        return measure_study(
            self._maps, stacks=self._stacks, progress=lambda part: self.report(part, "measuring the canal")
        )

    def node(self, scene: Any = None) -> Any:
        """The measures, once `poll` says that the work has ended, as a new table node; `describe_measures` has the rest.

        Raises:
            GaussianMRIError: the work was cancelled, or the segmentation was removed meanwhile.
        """
        found: StudyMeasures = self.result()
        if not all(in_scene(node) for node in self._nodes):
            raise GaussianMRIError("The segmentation was removed while it was measured; nothing is kept.")
        rows = [measure.cells() for measure in found.measures]
        lines = [*found.remarks, CUTOFFS_TEXT, DISCLAIMER]
        return segmentation_table(self._nodes[0], "canal", rows, _DESCRIPTIONS, lines, scene=scene)


def measure_canal(
    segmentation_nodes: Any,
    volume_nodes: Any = (),
    *,
    scene: Any = None,
    progress: Callable[[float], object] | None = None,
) -> Any:
    """Measure the canal at every disc and wait for the table; see `CanalJob`.

    Args:
        progress: called with the fraction done; when it returns False the work is cancelled.

    Raises:
        GaussianMRIError: see `CanalJob`; labels that are no spine's, without canal or discs, or off the volumes.
    """
    job = CanalJob(segmentation_nodes, volume_nodes)
    job.run(progress)
    return job.node(scene)


def describe_measures(table_node: Any) -> str:
    """Lines for people: how many levels were measured, what is unusual, the cut-offs."""
    table = table_node.GetTable()
    measured = sum(not np.isnan(table.GetValueByName(row, "area").ToDouble()) for row in range(table.GetNumberOfRows()))
    return f"Canal measured at {measured} of {len(LEVELS)} discs.\n{table_node.GetDescription()}"


def spine_maps(node: Any) -> dict[str, LabelFile]:
    """A segmentation of a spine as label maps: one, where its layers lie on one grid, as Slicer's usually do."""
    segmentation = node.GetSegmentation()
    merged: list[tuple[NDArray[np.float64], list[LabelLayer]]] = []
    for layer in label_layers(node):
        group = next((group for matrix, group in merged if _offset(matrix, layer.ijk_to_ras) is not None), None)
        if group is None:
            merged.append((layer.ijk_to_ras, [layer]))
        else:
            group.append(layer)
    maps = {}
    for number, (matrix, group) in enumerate(merged, 1):
        names: dict[int, str] = {}
        starts = [_offset(matrix, layer.ijk_to_ras) for layer in group]
        boxes = [(at, at + layer.labels.shape) for at, layer in zip(starts, group, strict=True) if at is not None]
        low, high = np.min([box[0] for box in boxes], axis=0) - 1, np.max([box[1] for box in boxes], axis=0) + 1
        voxels = np.zeros(high - low, np.uint16)  # a rim of air: Slicer cuts layers to what is in them
        for (start, end), layer in zip(boxes, group, strict=True):
            part = voxels[tuple(slice(*edge) for edge in zip(start - low, end - low, strict=True))]
            first = len(names)
            part[(layer.labels > 0) & (part == 0)] = layer.labels[(layer.labels > 0) & (part == 0)] + first
            for segment_id, value in layer.values.items():
                names[first + value] = segmentation.GetSegment(segment_id).GetName().strip()
        affine = matrix.copy()
        affine[:3, 3] += matrix[:3, :3] @ low[::-1]
        numbers = {value: _NUMBERED.fullmatch(text) for value, text in names.items()}
        if all(numbers.values()):
            values = np.array([0, *(int(found[1]) for found in numbers.values() if found)], np.uint16)
            voxels, names = values[voxels], {}
        title = node.GetName() if len(merged) == 1 else f"{node.GetName()}, grid {number}"
        maps[title] = LabelFile(
            voxels, affine, segments={value: {"Name": text} for value, text in names.items()}
        )
    return {title: labels for title, labels in maps.items() if scheme_of(labels) is not None} or maps


def _offset(matrix: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """Voxels (slices, rows, columns) by which one grid begins after another; None where they are not on one lattice."""
    inner = np.linalg.inv(matrix) @ other
    start = np.rint(inner[:3, 3])
    if not np.allclose(inner[:3, :3], np.eye(3), atol=1e-4) or np.abs(inner[:3, 3] - start).max() > 0.01:
        return None
    return start[::-1].astype(np.int64)
